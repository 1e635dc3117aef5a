// Text as keystrokes of a US keyboard, for guests that have no clipboard agent: an installer, a login prompt.

const SHIFT = [0xffe1, "ShiftLeft"];
const PAUSE_MS = 12; // a PS/2 keyboard's queue holds 16 bytes

const ROWS = {
  Backquote: "`~", Digit1: "1!", Digit2: "2@", Digit3: "3#", Digit4: "4$", Digit5: "5%", Digit6: "6^", Digit7: "7&",
  Digit8: "8*", Digit9: "9(", Digit0: "0)", Minus: "-_", Equal: "=+", BracketLeft: "[{", BracketRight: "]}",
  Backslash: "\\|", Semicolon: ";:", Quote: "'\"", Comma: ",<", Period: ".>", Slash: "/?",
};
const KEYS = new Map([[" ", ["Space", false, 0x20]], ["\n", ["Enter", false, 0xff0d]], ["\t", ["Tab", false, 0xff09]]]);
for (const [code, [plain, shifted]] of Object.entries(ROWS)) {
  KEYS.set(plain, [code, false, plain.charCodeAt(0)]);
  KEYS.set(shifted, [code, true, shifted.charCodeAt(0)]);
}
for (const letter of "abcdefghijklmnopqrstuvwxyz") {
  const code = `Key${letter.toUpperCase()}`;
  KEYS.set(letter, [code, false, letter.charCodeAt(0)]);
  KEYS.set(letter.toUpperCase(), [code, true, letter.toUpperCase().charCodeAt(0)]);
}

// Types `text`, and returns the characters that no key has. Ends early when `goesOn` says no.
export async function type(rfb, text, goesOn) {
  const missing = new Set();
  for (const character of text.replaceAll("\r\n", "\n")) {
    if (!goesOn()) break;
    const key = KEYS.get(character);
    if (!key) {
      missing.add(character);
      continue;
    }
    const [code, shifted, keysym] = key;
    if (shifted) rfb.sendKey(...SHIFT, true);
    rfb.sendKey(keysym, code);
    if (shifted) rfb.sendKey(...SHIFT, false);
    await new Promise((resume) => setTimeout(resume, PAUSE_MS));
  }
  return [...missing];
}
