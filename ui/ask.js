// Questions before something is lost. The browser keeps the focus inside and gives it back.
import { at } from "./words.js";

/**
 * Asks; true when it was confirmed. With `typed`, that word must be typed first; without `yes`
 * there is nothing to confirm.
 */
export function ask({ title, body, yes, typed = "" }) {
  const [dialog, input, button] = [at("ask"), at("ask-input"), at("ask-yes")];
  at("ask-title").textContent = title;
  at("ask-body").replaceChildren(...body);
  at("ask-typed").hidden = !typed || !yes;
  at("ask-label").textContent = `Type ${typed} to confirm`;
  at("ask-no").textContent = yes ? "Cancel" : "Close";
  input.value = "";
  button.hidden = !yes;
  button.textContent = yes ?? "";
  const check = () => { button.disabled = !yes || (typed !== "" && input.value !== typed); };
  input.oninput = check;
  check();
  at("ask-no").onclick = () => dialog.close("no");
  at("ask-form").onsubmit = (event) => {
    event.preventDefault();
    if (!button.disabled) dialog.close("yes");
  };
  dialog.returnValue = "no";
  dialog.showModal();
  (typed && yes ? input : at("ask-no")).focus();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}
