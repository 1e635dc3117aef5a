// The API's document, shown by swagger-ui. `?lang=en` or `?lang=zh` chooses its words.
"use strict";

const given = new URLSearchParams(location.search).get("lang");
const lang = given ?? (navigator.language.startsWith("zh") ? "zh" : "en");
document.documentElement.lang = lang;

SwaggerUIBundle({
  url: `/openapi.json?lang=${encodeURIComponent(lang)}`,
  domNode: document.getElementById("docs"),
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  docExpansion: "list",
  validatorUrl: null,
  // Answers in the language of the page, too.
  requestInterceptor: (request) => {
    request.headers["X-Language"] ??= lang;
    return request;
  },
});
