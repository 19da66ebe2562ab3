"use strict";
// The reading sheet: a reader's own extent of each class in each zone; saved once, then fixed.
(() => {
  const form = document.querySelector("[data-reading]");
  if (!form) return;
  const sheet = JSON.parse(document.querySelector("[data-sheet]").textContent);
  const zones = [...form.querySelectorAll("[data-zone]")];
  const fault = form.querySelector("[data-fault]");
  let saved = null;

  const inputs = (zone) => [...zone.querySelectorAll("input")];
  const sum = (zone) => inputs(zone).reduce((total, input) => total + Number(input.value), 0);
  const extent = () => zones.reduce((total, zone) => total + sum(zone), 0) / zones.length;

  function show() {
    for (const zone of zones) zone.querySelector("[data-sum]").value = `${sum(zone)} %`;
    form.querySelector("[data-extent]").value = `${extent().toFixed(1)} %`;
  }

  // What is wrong with the sheet, in words; nothing where it may be saved.
  function check() {
    for (const name of ["reader", "id"]) {
      const field = form.elements[name];
      if (!field.value.trim()) return [sheet.texts[`no_${name}`], field];
    }
    for (const zone of zones) {
      for (const input of inputs(zone)) {
        const value = Number(input.value);
        if (input.value === "" || !(value >= 0 && value <= 100) || value % sheet.step !== 0) {
          return [sheet.texts.not_a_step.replace("{field}", input.ariaLabel), input];
        }
      }
      if (sum(zone) > 100) {
        const title = zone.querySelector("th").textContent;
        return [sheet.texts.over_100.replace("{field}", title), inputs(zone)[0]];
      }
    }
    return ["", null];
  }

  function record() {
    const now = new Date();
    const two = (part) => String(part).padStart(2, "0");
    const values = {
      id: form.elements.id.value.trim(), reader: form.elements.reader.value.trim(),
      date: `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`,
      blind: form.dataset.blind, series_digest: sheet.series_digest,
    };
    for (const zone of zones) {
      for (const input of inputs(zone)) values[input.name] = Number(input.value);
    }
    values.extent_percent = Number(extent().toFixed(4));
    return values;
  }

  function cell(value) {
    let text = String(value).replace(/[\r\n]+/g, " ");
    if (/^[=+\-@]/.test(text)) text = `'${text}`; // no formula for a spreadsheet
    return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function download(kind) {
    const names = sheet.columns;
    const text = kind === "json"
      ? `${JSON.stringify({ schema_version: sheet.schema_version, ...saved }, null, 2)}\n`
      : `${names.join(",")}\n${names.map((name) => cell(saved[name])).join(",")}\n`;
    const link = document.createElement("a");
    const plain = (part) => part.replace(/[^\p{L}\p{N}._-]+/gu, "-");
    link.href = URL.createObjectURL(new Blob([text], { type: `text/${kind}` }));
    link.download = `reading-${plain(saved.id)}-${plain(saved.reader)}.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (saved) return;
    const [text, field] = check();
    fault.textContent = text;
    if (field) {
      field.focus();
      return;
    }
    saved = record();
    for (const input of form.querySelectorAll("input")) input.readOnly = true;
    form.querySelector("[type=submit]").disabled = true;
    form.querySelector("[data-saved]").hidden = false;
    uncover();
  });
  for (const button of form.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => download(button.dataset.download));
  }
  show();

  // Only now may the reader see the index.
  function uncover() {
    const results = document.querySelector("[data-covered-results]");
    if (!results) return;
    const note = document.querySelector("[data-covered]");
    note.replaceWith(results.content.cloneNode(true));
    const viewer = document.querySelector("[data-viewer]");
    viewer.dataset.blind = "no";
    viewer.querySelector("[data-results]").hidden = false;
    viewer.dispatchEvent(new Event("unblind"));
  }
})();
