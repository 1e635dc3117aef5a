// What the pages say, in Chinese and English: the browser's language decides, or ?lang=.

const WORDS = {
  title: ["控制台", "Console"],
  toolbar: ["控制台工具栏", "Console tools"],
  screen: ["虚拟机屏幕。按 Ctrl+Shift+F6 返回工具栏。", "The VM's screen. Ctrl+Shift+F6 leads back to the tools."],
  cad: ["Ctrl-Alt-Del", "Ctrl-Alt-Del"],
  clipboard: ["剪贴板", "Clipboard"],
  fit: ["适应窗口", "Fit"],
  fitHint: ["缩放画面以适应窗口；关闭则为 1:1", "Scale the screen to the window; off: 1:1"],
  full: ["全屏", "Full screen"],
  reconnect: ["重新连接", "Reconnect"],
  connect: ["连接", "Connect"],
  close: ["关闭", "Close"],
  clipboardText: ["文本：来自虚拟机，或要送入虚拟机", "Text: from the VM, or to be sent to it"],
  send: ["送入剪贴板", "Send to its clipboard"],
  sendHint: ["需要虚拟机内有剪贴板代理", "needs a clipboard agent in the VM"],
  type: ["作为按键输入", "Type it"],
  typeHint: ["按美式键盘逐键输入", "key by key, as a US keyboard"],
  typing: ["正在输入…", "typing…"],
  cannotType: ["键盘上没有的字符已略过：", "left out, for no key has them: "],
  sent: ["已送出", "sent"],
  leave: ["按 Ctrl+Shift+F6 离开虚拟机画面", "Ctrl+Shift+F6 takes the keyboard back from the VM"],
  password: ["此控制台需要密码", "This console wants a password"],
  ok: ["确定", "OK"],
  connecting: ["正在连接…", "connecting…"],
  connected: ["已连接", "connected"],
  again: ["连接中断，{n} 秒后重试…", "the connection ended; trying again in {n} s…"],
  off: ["虚拟机暂未运行，{n} 秒后重试…", "the VM does not run just now; trying again in {n} s…"],
  unreachable: ["无法访问控制台服务，{n} 秒后重试…", "the console's service cannot be reached; trying again in {n} s…"],
  idle: ["未连接", "not connected"],
  dead: ["此链接已失效：虚拟机已停止，或链接已过期。请重新打开控制台。",
    "This link opens nothing any more: the VM was stopped, or the link is too old. Open the console anew."],
  ended: ["已结束", "ended"],
  noLink: ["此地址没有指明控制台。请通过 POST /api/novnc/{虚拟机} 获取链接。",
    "This address names no console. POST /api/novnc/{name of the VM} answers with a link that does."],
  refused: ["虚拟机拒绝了连接：", "The VM's console refused: "],

  consoles: ["控制台", "Consoles"],
  consolesIntro: ["在浏览器中打开虚拟机的屏幕。", "The screens of your VMs, in the browser."],
  vm: ["虚拟机", "VM"],
  state: ["状态", "State"],
  vncPort: ["VNC 端口", "VNC port"],
  action: ["操作", "Action"],
  open: ["打开", "Open"],
  openOf: ["打开 {n} 的控制台", "Open the console of {n}"],
  none: ["还没有虚拟机。", "There are no VMs yet."],
  loading: ["正在读取…", "loading…"],
  token: ["此代理需要令牌（tokenFile 中的内容）", "This agent wants its token (what stands in its tokenFile)"],
  wrongToken: ["令牌不被接受。", "That token is not accepted."],
  noAgent: ["无法连接到代理，将自动重试。", "The agent does not answer; trying again."],
  popup: ["浏览器拦截了新窗口，请允许后重试。", "The browser blocked the new window; allow it, and try again."],
  running: ["运行中", "running"],
  stopped: ["已停止", "stopped"],
  starting: ["正在启动", "starting"],
  stopping: ["正在停止", "stopping"],
  paused: ["已暂停", "paused"],
  failed: ["失败", "failed"],
  unknown: ["未知", "unknown"],
};

const wanted = new URLSearchParams(location.search).get("lang") || navigator.language || "en";
export const language = wanted.toLowerCase().startsWith("zh") ? "zh" : "en";

export function say(key, n) {
  const text = WORDS[key]?.[language === "zh" ? 0 : 1] ?? key;
  return n === undefined ? text : text.replace("{n}", n);
}

// Fills in what the document leaves to us: data-say is an element's text, data-title its title, data-label its name.
export function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const each of document.querySelectorAll("[data-say]")) each.textContent = say(each.dataset.say);
  for (const each of document.querySelectorAll("[data-title]")) each.title = say(each.dataset.title);
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", say(each.dataset.label));
}
