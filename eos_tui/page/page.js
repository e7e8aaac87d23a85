// What textual-serve's script, which runs after this one, looks for: where the socket is and how large the letters are.
const terminal = document.getElementById("terminal");
// Relative to the page, which a tunnel or a proxy may have put at another address than the server's own.
terminal.dataset.sessionWebsocketUrl = new URL("ws", window.location.href.replace(/^http/, "ws").split("?")[0]).href;
terminal.dataset.fontSize = new URLSearchParams(window.location.search).get("fontsize") || "16";
// Keys are for the terminal from the start. It tells of its focus through the socket, so not before that is open.
new MutationObserver((_, observer) => {
  if (terminal.classList.contains("-connected")) {
    observer.disconnect();
    terminal.querySelector("textarea").focus();
  }
}).observe(terminal, { attributeFilter: ["class"] });
