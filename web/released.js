// Editors of nodes that were removed, kept for a moment. No DOM: node's test runner tests this file.
//
// Undo makes the graph's nodes anew, and the new renderer may go on showing the old node's element. So a new node
// takes over the editor of the removed node whose id it has. What nobody takes was removed for good.

const MOMENT = 20000; // milliseconds; undo has made the nodes anew long before, also in a large graph

export class Released {
  #editors = new Map(); // node id -> { editor, timer }

  constructor(moment = MOMENT) {
    this.moment = moment;
  }

  keep(id, editor) {
    this.take(id)?.destroy();
    const timer = setTimeout(() => this.take(id)?.destroy(), this.moment);
    this.#editors.set(id, { editor, timer });
  }

  // The editor of the removed node, which is the taker's from now on; undefined if there is none.
  take(id) {
    const kept = this.#editors.get(id);
    this.#editors.delete(id);
    clearTimeout(kept?.timer);
    return kept?.editor;
  }

  get size() {
    return this.#editors.size;
  }
}
