"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const states = data.states;
  const rank = new Map(states.map((state, place) => [state.name, place]));
  const said = new Map(states.map((state) => [state.name, state.label]));
  const rows = data.rows.map((cells, place) => {
    const row = { place };
    data.columns.forEach((name, column) => { row[name] = cells[column]; });
    row.vault = data.vaults[row.vault] ?? "";
    [row.message, row.advice] = data.reasons[row.reason];
    row.text = [row.database, row.parent, row.vm, row.vault, row.policy, row.code, row.message, said.get(row.state)]
      .join("\n").toLowerCase();
    return row;
  });
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const columns = [
    { name: "state", label: "State", by: (row) => rank.get(row.state) },
    { name: "database", label: "Database", by: (row) => row.database },
    { name: "parent", label: "Instance", by: (row) => row.parent },
    { name: "vm", label: "VM", by: (row) => row.vm },
    { name: "vault", label: "Vault", by: (row) => row.vault },
    { name: "policy", label: "Policy", by: (row) => row.policy },
    { name: "backup", label: "Last backup", by: (row) => row.backup },
    { name: "code", label: "Why, and what to do", by: (row) => row.code },
  ];
  const most = 250;
  const view = { search: "", machine: "", vault: "", states: new Set(), sort: null, down: false, page: 0, size: 100 };
  const at = (id) => document.getElementById(id);
  const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined && text !== null) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function spoken(milliseconds) {
    const minutes = Math.max(0, Math.round(milliseconds / 60000));
    if (minutes < 60) return `${minutes} min ago`;
    if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ago`;
    return `${Math.floor(minutes / 1440)} days ago`;
  }

  function stateOf(row) {
    return element("span", said.get(row.state), `state of-${row.state}`);
  }

  function cellOf(row, column) {
    const cell = element("td", null, `at-${column.name}`);
    if (column.name === "state") {
      cell.append(stateOf(row));
    } else if (column.name === "backup") {
      if (row.backup) {
        cell.append(element("span", row.backup.slice(0, 16).replace("T", " "), "moment"));
        const age = spoken(Date.parse(data.at) - Date.parse(row.backup));
        cell.append(element("small", row.state === "failing" ? `${age}, failed` : age));
      }
    } else if (column.name === "code") {
      if (row.message) cell.append(element("span", row.message));
      if (row.advice) cell.append(element("small", row.advice, "advice"));
      if (row.code) {
        const small = element("small");
        small.append(element("code", row.code));
        cell.append(small);
      }
    } else {
      cell.textContent = column.name === "database" && row.database === "*" ? "all (*)" : row[column.name] ?? "";
      if (column.name === "parent" && row.auto) cell.append(element("small", "auto-protected"));
      if (column.name === "policy" && row.model) cell.append(element("small", `${row.model.toLowerCase()} recovery model`));
    }
    return cell;
  }

  function compared(one, other, by) {
    const left = by(one), right = by(other);
    const empty = (value) => value === null || value === undefined || value === "";
    // What is not there comes last, whichever way it is sorted.
    if (empty(left) || empty(right)) return empty(left) - empty(right);
    const order = typeof left === "number" ? left - right : collator.compare(left, right);
    return view.down ? -order : order;
  }

  function chosen() {
    const words = view.search.toLowerCase().split(/\s+/).filter(Boolean);
    const found = rows.filter((row) =>
      (view.states.size === 0 || view.states.has(row.state)) &&
      (!view.machine || row.vm === view.machine) &&
      (!view.vault || row.vault === view.vault) &&
      words.every((word) => row.text.includes(word)));
    const column = columns.find((each) => each.name === view.sort);
    if (column) found.sort((one, other) => compared(one, other, column.by) || one.place - other.place);
    return found;
  }

  function show(size = view.size) {
    const found = chosen();
    const pages = Math.max(1, Math.ceil(found.length / size));
    view.page = Math.min(view.page, pages - 1);
    const first = view.page * size;
    const shown = found.slice(first, first + Math.min(size, most));
    const body = document.createDocumentFragment();
    for (const row of shown) {
      const line = element("tr");
      for (const column of columns) line.append(cellOf(row, column));
      body.append(line);
    }
    document.querySelector("#table tbody").replaceChildren(body);
    at("shown").textContent = found.length === 0
      ? "No database matches. Clear the search or the filters to see all."
      : `${(first + 1).toLocaleString("en")} to ${(first + shown.length).toLocaleString("en")} of ${count(found.length, "row")}`
        + (found.length < rows.length ? `, of ${rows.length.toLocaleString("en")} in all` : "");
    at("page").textContent = `Page ${view.page + 1} of ${pages.toLocaleString("en")}`;
    at("before").disabled = view.page === 0;
    at("after").disabled = view.page >= pages - 1;
    at("pages").hidden = pages === 1;
    document.querySelectorAll("#table th").forEach((head, place) => {
      if (columns[place].name === view.sort) head.setAttribute("aria-sort", view.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  function again() {
    view.page = 0;
    show();
  }

  for (const column of columns) {
    const head = element("th");
    head.scope = "col";
    const button = element("button", column.label);
    button.type = "button";
    button.addEventListener("click", () => {
      view.down = view.sort === column.name && !view.down;
      view.sort = column.name;
      again();
    });
    head.append(button);
    document.querySelector("#table thead tr").append(head);
  }

  for (const state of states.filter((each) => rows.some((row) => row.state === each.name))) {
    const button = element("button");
    button.type = "button";
    button.dataset.state = state.name;
    button.setAttribute("aria-pressed", "false");
    const number = rows.filter((row) => row.state === state.name).length;
    button.append(element("span", state.label, `state of-${state.name}`), ` ${number.toLocaleString("en")}`);
    button.addEventListener("click", () => {
      const pressed = !view.states.delete(state.name);
      if (pressed) view.states.add(state.name);
      button.setAttribute("aria-pressed", String(pressed));
      again();
    });
    at("states").append(button);
  }

  function offer(id, values) {
    const names = [...new Set(values.filter(Boolean))].sort(collator.compare);
    for (const name of names) {
      const option = element("option", name);
      option.value = name;
      at(id).append(option);
    }
    at(id).addEventListener("change", () => { view[id] = at(id).value; again(); });
  }
  offer("machine", rows.map((row) => row.vm));
  offer("vault", rows.map((row) => row.vault));

  at("filters").addEventListener("submit", (event) => event.preventDefault());
  at("search").addEventListener("input", () => { view.search = at("search").value; again(); });
  at("size").addEventListener("change", () => { view.size = Number(at("size").value); again(); });
  at("before").addEventListener("click", () => { view.page -= 1; show(); });
  at("after").addEventListener("click", () => { view.page += 1; show(); });

  const themes = document.querySelectorAll("[data-theme-choice]");
  for (const button of themes) {
    button.addEventListener("click", () => {
      const root = document.documentElement;
      const chosenNow = root.dataset.theme === button.dataset.themeChoice ? "" : button.dataset.themeChoice;
      if (chosenNow) root.dataset.theme = chosenNow;
      else delete root.dataset.theme;
      for (const each of themes) each.setAttribute("aria-pressed", String(each.dataset.themeChoice === chosenNow));
    });
  }

  at("filters").hidden = at("theme").hidden = false;

  // Paper has no pages to turn and no filters: as many rows as there may be, and where no state is chosen, of those that
  // are not covered.
  let onScreen = null;
  addEventListener("beforeprint", () => {
    onScreen ??= { page: view.page, states: view.states };
    const wanting = states.filter((state) => state.name !== "covered").map((state) => state.name);
    view.page = 0;
    if (view.states.size === 0 && rows.some((row) => wanting.includes(row.state))) view.states = new Set(wanting);
    show(most);
  });
  addEventListener("afterprint", () => {
    Object.assign(view, onScreen ?? {});
    onScreen = null;
    show();
  });
  show();
})();
