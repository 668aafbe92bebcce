/*
 * Type your own text: compute the table rows that it reads, in the browser.
 *
 *     text -> tokens -> canonical ids -> n-grams -> mix -> rows
 *
 * Parts 1 and 2 need no page: tests run them under node and compare every row with the package. All hashed
 * numbers are BigInts, because a JavaScript number is a float64 and loses the low bits of a product beyond
 * 2^53. Words, multipliers and primes come from try-data.js, which is generated from the package.
 */
"use strict";
(() => {
  // 1. From tokens to rows ------------------------------------------------------------------------

  /** The value wrapped to 64 bits, two's complement, as NumPy's int64 does. */
  const int64 = (value) => BigInt.asIntN(64, value);
  /** The non-negative remainder; the result of `%` has the sign of its left operand. */
  const floorModulus = (value, prime) => ((value % prime) + prime) % prime;
  /** All 64 bits in hexadecimal. */
  const hex = (value) => "0x" + BigInt.asUintN(64, value).toString(16).padStart(16, "0");

  /** The `order` tokens that end at a position, newest first, padded before the start. */
  function ngram(tokens, position, order, pad) {
    return Array.from({ length: order }, (_, back) => tokens[position - back] ?? { text: "pad", id: pad });
  }

  /** The exclusive or of each canonical id times the multiplier of its position. */
  function mix(newestFirst, multipliers) {
    return newestFirst.reduce((mixed, token, back) => mixed ^ int64(token.id * multipliers[back]), 0n);
  }

  /**
   * The n-grams, mixes and rows of one position in one dialect, by order.
   * @param {{id: bigint}[]} tokens   with their canonical ids
   * @param {number} position         counted from 0
   * @param {{pad: bigint, heads: number, multipliers: bigint[], primes: bigint[]}} dialect
   */
  function address(tokens, position, { pad, heads, multipliers, primes }) {
    return multipliers.slice(1).map((_, i) => {
      const newestFirst = ngram(tokens, position, i + 2, pad);
      const mixed = mix(newestFirst, multipliers);
      const own = primes.slice(i * heads, (i + 1) * heads);
      return { order: i + 2, ngram: newestFirst, mix: mixed, rows: own.map((prime) => floorModulus(mixed, prime)) };
    });
  }

  // 2. From the typed text to tokens --------------------------------------------------------------

  const MAX_TOKENS = 64;
  /** The input cannot be read; the page shows the message. */
  class InputError extends Error {}

  /** Text -> tokens: {id} if it begins with a number, else {text, raw, id}. */
  function read(text, data) {
    const typed = text.trim().replace(/\s+/g, " ");
    if (!typed) throw new InputError("Type some words or numbers to see which rows they read.");
    const tokens = /^[, ]*[-+]?\.?\d/.test(typed) ? readNumbers(typed, data) : readWords(typed, data);
    if (tokens.length <= MAX_TOKENS) return tokens;
    throw new InputError(`This page takes up to ${MAX_TOKENS} tokens; your text has ${tokens.length}.`);
  }

  /** Canonical ids separated by commas or spaces. */
  function readNumbers(typed, data) {
    const { name, size } = data.dialects.reduce((a, b) => (b.size < a.size ? b : a));
    return typed.split(/[, ]+/).filter(Boolean).map((part) => {
      const wrong = /^-\d+$/.test(part) ? "is negative, and canonical ids count from 0"
        : !/^\d+$/.test(part) ? "is not an integer: type canonical ids, or words from the list"
        : BigInt(part) >= size ? `is too large: the largest canonical id of ${name} is ${size - 1n}` : "";
      if (wrong) throw new InputError(`“${part}” ${wrong}.`);
      return { id: BigInt(part) };
    });
  }

  /** Words and punctuation of the list; a space belongs to the next word, as in the tokenizer. */
  function readWords(typed, data) {
    const pieces = typed.match(/ ?[^ ,.;:!?]+| ?[,.;:!?][^ ]*/g);
    const parts = pieces.flatMap((piece) => (Object.hasOwn(data.split, piece) ? data.split[piece] : [piece]));
    const missing = parts.filter((part) => !Object.hasOwn(data.tokens, part));
    const unknown = [...new Set(missing.map((part) => `“${part.trim()}”`))];
    const named = unknown.slice(0, 4).join(", ");
    if (named) throw new InputError(`Not in the word list below: ${named}${unknown.length > 4 ? " and others" : ""}.`);
    return parts.map((text) => ({ text, raw: data.tokens[text][0], id: data.tokens[text][1] }));
  }

  // 3. The page -----------------------------------------------------------------------------------

  const spelled = (token) => (token.text ?? "").replaceAll(" ", "␣");
  const shown = (token) => `${spelled(token)} ${token.id}`.trim();
  /** Make the page interactive: `data-try` marks its parts, `data-cell` the values that change. */
  function start(page, data) {
    const [form, figure, choice, status] = ["form", "figure", "tokens", "status"]
      .map((name) => page.querySelector(`[data-try="${name}"]`));
    const [input, pattern] = [form.querySelector("textarea"), choice.querySelector("label")];
    let [tokens, chosen] = [[], Number(choice.querySelector("[checked]").value)];

    /** One radio button for each token. */
    function showTokens() {
      choice.querySelector("div").replaceChildren(...tokens.map((token, position) => {
        const label = pattern.cloneNode(true);
        Object.assign(label.querySelector("input"), { value: position, checked: position === chosen });
        label.querySelector("code").textContent = spelled(token);
        label.querySelector("small").textContent = token.text ? `raw ${token.raw}` : "";
        label.querySelector("b").textContent = token.id;
        return label;
      }));
    }

    /** The n-grams, mixes and rows of the chosen token. */
    function showRows() {
      const write = (cell, value) => { figure.querySelector(`[data-cell="${cell}"]`).textContent = value; };
      const reads = data.dialects.map((dialect, d) => {
        const found = address(tokens, chosen, dialect);
        for (const { order, ngram, mix, rows } of found) {
          write(order, [...ngram].reverse().map(shown).join(" | "));
          write(`${d} ${order} mix`, hex(mix));
          rows.forEach((row, head) => write(`${d} ${order} ${head}`, row));
        }
        return `${found.flatMap((entry) => entry.rows).length} rows of ${dialect.name}`;
      }).join(" and ");
      status.textContent = `Token ${chosen + 1} of ${tokens.length} (${shown(tokens[chosen])}) reads ${reads}.`;
    }

    /** Read the input and show its rows, or an error message. */
    function update() {
      const atEnd = chosen === tokens.length - 1;
      try {
        tokens = read(input.value, data);
        chosen = atEnd ? tokens.length - 1 : Math.min(chosen, tokens.length - 1);
        showTokens();
        showRows();
        figure.hidden = false;
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
        [status.textContent, figure.hidden] = [error.message, true];
      }
      input.setAttribute("aria-invalid", String(figure.hidden));
    }

    input.addEventListener("input", update);
    choice.addEventListener("change", (event) => { chosen = Number(event.target.value); showRows(); });
    form.addEventListener("click", ({ target: { dataset } }) => {
      if (dataset.example) { input.value = dataset.example; update(); }
    });
    update();
    form.hidden = choice.disabled = false;
  }

  if (typeof module === "object") module.exports = { read, address, hex, InputError };
  if (typeof document === "object") start(document, globalThis.engramTry);
})();
