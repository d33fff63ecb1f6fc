// A small menu of words, worked by mouse or keys.

import { element } from "./element.js";

export class Menu {
  constructor() {
    this.element = element("div", { className: "deig-menu", hidden: true });
    this.element.setAttribute("role", "menu");
    this.element.addEventListener("keydown", (event) => this.#keyDown(event));
    this.closeOutside = (event) => this.element.contains(event.target) || this.close();
  }

  // `items` are [words, action]; `at` is a point of the window; `closed` runs when the menu goes.
  open(items, at, closed) {
    this.closed = closed;
    this.element.replaceChildren(
      ...items.map(([words, action]) => {
        const item = element("button", { type: "button", textContent: words });
        item.setAttribute("role", "menuitem");
        item.addEventListener("click", () => {
          this.close();
          action();
        });
        return item;
      }),
    );
    this.element.hidden = false;
    this.#place(at);
    this.element.firstChild.focus();
    document.addEventListener("pointerdown", this.closeOutside, true);
  }

  close() {
    if (this.element.hidden) return;
    this.element.hidden = true;
    document.removeEventListener("pointerdown", this.closeOutside, true);
    this.closed();
  }

  // The graph may show the node larger or smaller than it is laid out.
  #place([x, y]) {
    const holder = this.element.offsetParent ?? this.element.parentElement;
    const { left, top, width } = holder.getBoundingClientRect();
    const zoom = width / holder.offsetWidth;
    const most = { x: holder.clientWidth - this.element.offsetWidth, y: holder.clientHeight - this.element.offsetHeight };
    this.element.style.left = `${Math.max(Math.min((x - left) / zoom, most.x), 0)}px`;
    this.element.style.top = `${Math.max(Math.min((y - top) / zoom, most.y), 0)}px`;
  }

  #keyDown(event) {
    event.stopPropagation();
    const items = [...this.element.children];
    const at = items.indexOf(document.activeElement);
    if (event.key === "Escape" || event.key === "Tab") this.close();
    else if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
    else if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus();
    else return;
    event.preventDefault();
  }
}
