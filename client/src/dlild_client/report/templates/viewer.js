"use strict";
// Viewer of one or more scans on plain canvases: axial, coronal and sagittal slices of HU with
// the label map over them. Reads every <script type="application/json" data-scan> of the page.
(() => {
  const AXES = ["axial", "coronal", "sagittal"];
  const SHARPNESS = 3; // pixels of a canvas for each voxel
  const INK = "rgba(232, 236, 241, 0.9)";

  async function unpack(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // The inverse of `encode_hu`: differences along rows, low bytes of all voxels, then high bytes.
  function toHu(bytes, width, step, minimum) {
    const count = bytes.length / 2, hu = new Int16Array(count);
    for (let i = 0, column = 0, level = 0; i < count; i++) {
      if (column === 0) level = 0;
      const folded = bytes[i] | (bytes[count + i] << 8);
      level += (folded >>> 1) ^ -(folded & 1);
      hu[i] = level * step + minimum;
      if (++column === width) column = 0;
    }
    return hu;
  }

  class Scan {
    constructor(root, facts, hu, labels) {
      Object.assign(this, { root, facts, hu, labels });
      const [nz, ny, nx] = facts.shape, [sz, sy, sx] = facts.spacing_mm;
      // Of each plane: axis of the slices, columns and rows with their strides, and edge letters.
      this.planes = {
        axial: { axis: 0, count: nz, columns: nx, rows: ny, right: 1, down: nx, first: 0,
                 stride: ny * nx, wide: nx * sx, tall: ny * sy, edges: "RLAP" },
        coronal: { axis: 1, count: ny, columns: nx, rows: nz, right: 1, down: -ny * nx,
                   first: (nz - 1) * ny * nx, stride: nx, wide: nx * sx, tall: nz * sz,
                   edges: "RLHF" },
        sagittal: { axis: 2, count: nx, columns: ny, rows: nz, right: nx, down: -ny * nx,
                    first: (nz - 1) * ny * nx, stride: 1, wide: ny * sy, tall: nz * sz,
                    edges: "APHF" },
      };
      this.at = [...facts.start];
      for (const name of AXES) {
        const plane = this.planes[name], view = root.querySelector(`[data-plane=${name}]`);
        plane.canvas = view.querySelector("canvas");
        plane.slider = view.querySelector("input");
        plane.shown = view.querySelector("output");
        const unit = Math.min(sz, sy, sx);
        plane.canvas.width = Math.round(plane.wide / unit * SHARPNESS);
        plane.canvas.height = Math.round(plane.tall / unit * SHARPNESS);
        plane.slider.max = plane.count - 1;
        plane.small = new OffscreenCanvas(plane.columns, plane.rows);
        plane.over = new OffscreenCanvas(plane.columns, plane.rows);
      }
      // One scale for all planes: the columns are as wide as what they show.
      const columns = AXES.map((name) => `minmax(0, ${Math.round(this.planes[name].wide)}fr)`);
      root.style.setProperty("--columns", columns.join(" "));
    }

    move(name, index) {
      const plane = this.planes[name];
      this.at[plane.axis] = Math.max(0, Math.min(plane.count - 1, Math.round(index)));
    }

    share(name) {
      const plane = this.planes[name];
      return this.at[plane.axis] / Math.max(1, plane.count - 1);
    }

    // Voxel below a point of a canvas, as (z, y, x).
    voxel(name, event) {
      const plane = this.planes[name], box = plane.canvas.getBoundingClientRect();
      const inside = (share, count) => Math.max(0, Math.min(count - 1, Math.floor(share * count)));
      const column = inside((event.clientX - box.left) / box.width, plane.columns);
      const row = inside((event.clientY - box.top) / box.height, plane.rows);
      const at = [...this.at];
      if (name === "axial") [at[1], at[2]] = [row, column];
      if (name === "coronal") [at[0], at[2]] = [plane.rows - 1 - row, column];
      if (name === "sagittal") [at[0], at[1]] = [plane.rows - 1 - row, column];
      return at;
    }

    draw(name, look) {
      const plane = this.planes[name], context = plane.canvas.getContext("2d");
      const start = plane.first + this.at[plane.axis] * plane.stride;
      const { width, height } = plane.canvas;
      this.grey(plane, start, look);
      context.imageSmoothingEnabled = true;
      context.imageSmoothingQuality = "high";
      context.drawImage(plane.small, 0, 0, width, height);
      if (look.overlay) {
        this.colour(plane, start, look);
        context.imageSmoothingEnabled = false;
        context.drawImage(plane.over, 0, 0, width, height);
      }
      if (look.cross) this.cross(name, plane, context);
      this.letters(plane, context);
      plane.slider.value = this.at[plane.axis];
      plane.canvas.dataset.slice = this.at[plane.axis];
      plane.shown.value = look.texts.slice_of
        .replace("{index}", this.at[plane.axis] + 1).replace("{count}", plane.count);
    }

    grey(plane, start, look) {
      const pixels = new ImageData(plane.columns, plane.rows);
      const words = new Uint32Array(pixels.data.buffer);
      const low = look.level - look.width / 2, scale = 255 / look.width;
      for (let row = 0, i = 0; row < plane.rows; row++) {
        let voxel = start + row * plane.down;
        for (let column = 0; column < plane.columns; column++, i++, voxel += plane.right) {
          const value = Math.max(0, Math.min(255, (this.hu[voxel] - low) * scale)) | 0;
          words[i] = 0xff000000 | (value << 16) | (value << 8) | value;
        }
      }
      plane.small.getContext("2d").putImageData(pixels, 0, 0);
    }

    // Lesions are filled; lung without lesion is outlined with the lesions in it.
    colour(plane, start, look) {
      const pixels = new ImageData(plane.columns, plane.rows);
      const words = new Uint32Array(pixels.data.buffer), { labels } = this;
      const inside = (row, column) =>
        row >= 0 && column >= 0 && row < plane.rows && column < plane.columns &&
        labels[start + row * plane.down + column * plane.right] !== 0;
      for (let row = 0, i = 0; row < plane.rows; row++) {
        let voxel = start + row * plane.down;
        for (let column = 0; column < plane.columns; column++, i++, voxel += plane.right) {
          const label = labels[voxel];
          if (label === 0) continue;
          if (look.fills[label]) words[i] = look.fills[label];
          const edge = look.outline && !(inside(row - 1, column) && inside(row + 1, column) &&
            inside(row, column - 1) && inside(row, column + 1));
          if (edge) words[i] = look.outline;
        }
      }
      plane.over.getContext("2d").putImageData(pixels, 0, 0);
    }

    cross(name, plane, context) {
      const [z, y, x] = this.at, [nz, ny, nx] = this.facts.shape;
      const up = (nz - 1 - z + 0.5) / nz, back = (y + 0.5) / ny, left = (x + 0.5) / nx;
      const [across, down] = { axial: [left, back], coronal: [left, up], sagittal: [back, up] }[name];
      context.strokeStyle = "rgba(255, 255, 255, 0.35)";
      context.lineWidth = 1.5;
      context.beginPath();
      context.moveTo(across * plane.canvas.width, 0);
      context.lineTo(across * plane.canvas.width, plane.canvas.height);
      context.moveTo(0, down * plane.canvas.height);
      context.lineTo(plane.canvas.width, down * plane.canvas.height);
      context.stroke();
    }

    letters(plane, context) {
      const { width, height } = plane.canvas, [left, right, top, bottom] = plane.edges;
      context.font = "26px system-ui, sans-serif";
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.lineWidth = 5;
      context.strokeStyle = "rgba(0, 0, 0, 0.8)";
      context.fillStyle = INK;
      const spots = [[left, 20, height / 2], [right, width - 20, height / 2],
                     [top, width / 2, 20], [bottom, width / 2, height - 20]];
      for (const [letter, x, y] of spots) {
        context.strokeText(letter, x, y);
        context.fillText(letter, x, y);
      }
    }
  }

  class Viewer {
    constructor(root, scans, texts) {
      Object.assign(this, { root, scans, texts });
      this.active = "axial";
      this.hidden = new Set();
      this.part = (name) => root.querySelector(`[data-tool=${name}]`);
      for (const scan of scans) for (const name of AXES) this.listen(scan, name);
      for (const name of ["level", "width", "opacity", "overlay", "cross"]) {
        this.part(name).addEventListener("input", () => this.draw());
      }
      for (const button of root.querySelectorAll("[data-window]")) {
        button.addEventListener("click", () => this.preset(button));
      }
      for (const box of root.querySelectorAll("[data-label]")) {
        box.addEventListener("input", () => {
          this.hidden[box.checked ? "delete" : "add"](Number(box.dataset.label));
          this.draw();
        });
      }
      root.addEventListener("keydown", (event) => this.key(event));
      this.draw();
    }

    look() {
      const opacity = Math.round(255 * this.part("opacity").value / 100);
      const fills = [], blind = this.root.dataset.blind === "yes";
      let outline = 0;
      for (const kind of this.scans[0].facts.classes) {
        if (this.hidden.has(kind.label)) continue;
        const [red, green, blue] = kind.colour;
        const colour = (blue << 16) | (green << 8) | red;
        if (kind.lesion) fills[kind.label] = ((opacity << 24) | colour) >>> 0;
        else outline = ((Math.min(255, opacity + 60) << 24) | colour) >>> 0;
      }
      return {
        fills, outline, texts: this.texts, cross: this.part("cross").checked,
        overlay: this.part("overlay").checked && opacity > 0 && !blind,
        level: Number(this.part("level").value), width: Number(this.part("width").value),
      };
    }

    draw() {
      const look = this.look();
      for (const name of ["level", "width"]) {
        this.part(`${name}-shown`).value = `${look[name]} HU`;
      }
      this.part("opacity-shown").value = `${this.part("opacity").value} %`;
      for (const button of this.root.querySelectorAll("[data-window]")) {
        const same = button.dataset.window === `${look.level},${look.width}`;
        button.setAttribute("aria-pressed", String(same));
      }
      for (const scan of this.scans) for (const name of AXES) scan.draw(name, look);
    }

    preset(button) {
      [this.part("level").value, this.part("width").value] = button.dataset.window.split(",");
      this.draw();
    }

    // Other scans follow to the same share of their own height, depth or width.
    go(scan, name, index) {
      scan.move(name, index);
      for (const other of this.scans) {
        if (other !== scan) other.move(name, scan.share(name) * (other.planes[name].count - 1));
      }
    }

    step(scan, name, by) {
      this.active = name;
      this.go(scan, name, scan.at[scan.planes[name].axis] + by);
      this.draw();
    }

    listen(scan, name) {
      const { slider, canvas } = scan.planes[name];
      slider.addEventListener("input", () => {
        this.active = name;
        this.go(scan, name, Number(slider.value));
        this.draw();
      });
      const point = (event) => {
        const at = scan.voxel(name, event);
        if (event.buttons & 1) {
          this.active = name;
          for (const other of AXES) {
            if (other !== name) this.go(scan, other, at[scan.planes[other].axis]);
          }
          this.draw();
        }
        this.tell(scan, at);
      };
      canvas.addEventListener("pointerdown", point);
      canvas.addEventListener("pointermove", point);
      canvas.addEventListener("wheel", (event) => {
        // Only where the viewer is in use: elsewhere the wheel scrolls the page.
        if (!this.root.contains(document.activeElement)) return;
        event.preventDefault();
        this.step(scan, name, event.deltaY > 0 ? -1 : 1);
      }, { passive: false });
    }

    tell(scan, [z, y, x]) {
      const [, ny, nx] = scan.facts.shape, voxel = (z * ny + y) * nx + x;
      const label = this.root.dataset.blind === "yes" ? 0 : scan.labels[voxel];
      const kind = scan.facts.classes.find((other) => other.label === label);
      this.part("readout").value = `${scan.hu[voxel]} HU${kind ? `, ${kind.title}` : ""}`;
    }

    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const typed = event.target.matches("input, select, textarea");
      const scan = this.scans[0], moves = {
        ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10,
        Home: -1e6, End: 1e6,
      };
      const presets = this.root.querySelectorAll("[data-window]"), preset = presets[event.key - 1];
      const planes = { a: "axial", c: "coronal", s: "sagittal" };
      if (event.key in moves) {
        if (typed) return; // sliders have these keys themselves
        this.step(scan, this.active, moves[event.key]);
      } else if (preset) this.preset(preset);
      else if (event.key in planes) {
        this.active = planes[event.key];
        scan.planes[this.active].slider.focus();
      } else if (event.key === "o") this.part("overlay").click();
      else if (event.key === "x") this.part("cross").click();
      else if (event.key === "+" || event.key === "-") {
        this.part("opacity")[event.key === "+" ? "stepUp" : "stepDown"](2);
        this.draw();
      } else return;
      event.preventDefault();
    }
  }

  async function open() {
    const root = document.querySelector("[data-viewer]");
    if (!root) return;
    const texts = JSON.parse(document.querySelector("[data-texts]").textContent);
    try {
      const scans = [];
      for (const part of document.querySelectorAll("[data-scan]")) {
        const facts = JSON.parse(part.textContent);
        const [hu, labels] = await Promise.all([unpack(facts.hu), unpack(facts.labels)]);
        facts.hu = facts.labels = null;
        scans.push(new Scan(root.querySelector(`[data-views="${part.dataset.scan}"]`), facts,
          toHu(hu, facts.shape[2], facts.step_hu, facts.minimum_hu), labels));
        part.remove();
      }
      const viewer = new Viewer(root, scans, texts);
      root.addEventListener("unblind", () => viewer.draw());
      root.dataset.ready = "yes";
    } catch (error) {
      root.dataset.ready = "no";
      root.querySelector("[data-tool=fault]").textContent = `${texts.no_viewer} (${error.message})`;
    }
  }
  open();
})();
