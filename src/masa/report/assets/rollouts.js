"use strict";
(() => {
  const section = document.getElementById("rollouts");
  const form = section.querySelector("form"), found = section.querySelector(".found");
  const count = section.querySelector(".count"), pages = section.querySelector(".pages");
  const [previous, next] = pages.querySelectorAll("button"), place = pages.querySelector("span");
  const PER_PAGE = 10, SHOWN = 4;
  let data = null, hits = [], page = 0, timer = 0;

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;  // never as HTML: a model wrote it
    return element;
  };
  const mean = (values) => {
    const some = values.filter((value) => value !== null);
    return some.length ? some.reduce((sum, value) => sum + value, 0) / some.length : null;
  };
  const percent = (value) => `${(100 * value).toFixed(0)} %`;
  const whole = (value) => value.toLocaleString("en");

  const unpack = async () => {
    const bytes = Uint8Array.from(atob(document.getElementById("packed").textContent), (one) => one.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const packed = JSON.parse(await new Response(stream).text());
    const groups = packed.groups.map(([step, problem, text, task, flags, solutions, predictions]) => {
      const judged = solutions.filter((one) => one[3] !== null);
      const right = judged.filter((one) => one[3]).length;
      return {
        step, problem, text: packed.texts[text], task: packed.tasks[task], solutions, predictions,
        gated: Boolean(flags & 1), audited: Boolean(flags & 2), right, judged: judged.length,
        rate: judged.length ? right / judged.length : null, said: mean(predictions.map((one) => one[4])),
        length: mean(judged.filter((one) => one[3]).map((one) => one[1])), saidLength: mean(predictions.map((one) => one[5])),
      };
    });
    for (const task of packed.tasks.filter(Boolean).sort()) form.elements.task.add(new Option(task, task));
    return groups;
  };

  // The rollouts of a group that the filters let through.
  const passing = (group, wanted) => {
    if (wanted.task && group.task !== wanted.task) return null;
    if (group.step < wanted.from || group.step > wanted.to) return null;
    if (wanted.gated && !group.gated || wanted.audited && !group.audited) return null;
    let { solutions, predictions } = group;
    if (wanted.kind === "meta") solutions = [];
    if (wanted.kind === "correct" || wanted.kind === "wrong") {
      predictions = [];
      solutions = solutions.filter((one) => one[3] === (wanted.kind === "correct"));
    }
    if (wanted.cut || wanted.hinted) {
      predictions = [];
      solutions = solutions.filter((one) => (!wanted.cut || one[2] === "cutoff") && (!wanted.hinted || one[6]));
    }
    if (wanted.search && !group.text.toLowerCase().includes(wanted.search)) {
      const holds = (one) => one[0] !== null && one[0].toLowerCase().includes(wanted.search);
      solutions = solutions.filter(holds);
      predictions = predictions.filter(holds);
    }
    return solutions.length || predictions.length ? { group, solutions, predictions } : null;
  };

  const bound = (name, none) => (form.elements[name].value === "" ? none : Number(form.elements[name].value));
  const apply = () => {
    const { elements } = form;
    const wanted = {
      kind: elements.kind.value, task: elements.task.value, search: elements.search.value.trim().toLowerCase(),
      from: bound("from", -Infinity), to: bound("to", Infinity),
    };
    for (const name of ["gated", "audited", "cut", "hinted"]) wanted[name] = elements[name].checked;
    hits = data.map((group) => passing(group, wanted)).filter(Boolean);
    if (elements.order.value === "old") hits.reverse();
    if (elements.order.value === "far") {
      const far = ({ group }) => (group.rate === null || group.said === null ? -1 : Math.abs(group.rate - group.said));
      hits.sort((one, other) => far(other) - far(one));
    }
    page = 0;
    show();
  };

  const show = () => {
    const all = Math.max(1, Math.ceil(hits.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), all - 1);
    const rollouts = hits.reduce((sum, hit) => sum + hit.solutions.length + hit.predictions.length, 0);
    count.textContent = `${whole(rollouts)} rollouts in ${whole(hits.length)} groups`;
    place.textContent = `${whole(page + 1)} of ${whole(all)}`;
    previous.disabled = page === 0;
    next.disabled = page === all - 1;
    found.replaceChildren(...hits.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(card));
  };

  const card = ({ group, solutions, predictions }) => {
    const article = make("article", "card problem");
    article.append(make("h3", "", [`Step ${whole(group.step)}`, `problem ${group.problem}`, group.task].filter(Boolean).join(" · ")));
    const compared = (title, said, is, format) =>
      said === null && is === null ? null : `${title} ${said === null ? "not foretold" : `foretold ${format(said)}`}, ${is === null ? "not known" : `true ${format(is)}`}`;
    const facts = [
      compared("pass rate:", group.said, group.rate, percent),
      group.judged ? `${group.right} of ${group.judged} correct` : null,
      compared("length:", group.saidLength, group.length, (value) => value.toFixed(0)),
      group.gated ? "gated" : null, group.audited ? "audited" : null,
    ];
    article.append(make("p", "", facts.filter(Boolean).join(" · ")));
    if (group.text) article.append(make("pre", "question", group.text));
    const rollouts = [...predictions.map(prediction), ...solutions.map(solution)];
    // Some of each kind first: what was foretold, and what came of it.
    const first = [...rollouts.slice(0, Math.min(2, predictions.length)), ...rollouts.slice(predictions.length)].slice(0, SHOWN);
    article.append(...first);
    if (rollouts.length > first.length) {
      const more = make("button", "more", `Show all ${rollouts.length}`);
      more.type = "button";
      more.addEventListener("click", () => {
        more.remove();
        first.forEach((one) => one.remove());
        article.append(...rollouts);
        rollouts[0].tabIndex = -1;
        rollouts[0].focus();
      });
      article.append(more);
    }
    return article;
  };

  const rollout = (kind, mark, facts, text) => {
    const box = make("div", "rollout"), line = make("p");
    line.append(make("span", `mark ${kind}`, mark), ` · ${facts.filter(Boolean).join(" · ")}`);
    box.append(line);
    if (text !== null) {
      const body = make("pre", "", text);
      body.tabIndex = 0;  // scrolls by keyboard too
      box.append(body);
    }
    return box;
  };
  const tokens = (length) => (length === null ? null : `${whole(length)} tokens`);
  const named = (name, value) => (value === null ? null : `${name} ${value.toFixed(2)}`);
  const solution = ([text, length, finish, correct, reward, advantage, hinted]) =>
    rollout(correct === null ? "meta" : correct ? "good" : "bad", correct === null ? "ungraded" : correct ? "✓ correct" : "✗ incorrect",
      [tokens(length), finish && `ended by ${finish}`, named("reward", reward), named("advantage", advantage), hinted && "with a hint"], text);
  const prediction = ([text, length, finish, reward, rate, saidLength, notions]) =>
    rollout("meta", "prediction",
      [tokens(length), finish && `ended by ${finish}`, named("reward", reward), rate === null ? "no pass rate" : `pass rate ${percent(rate)}`,
        saidLength === null ? "no length" : `length ${whole(saidLength)}`, notions && notions.length ? `notions ${notions.join(", ")}` : null], text);

  const turn = (by) => {
    page += by;
    show();
    section.scrollIntoView();
  };
  const start = async () => {
    if (data !== null) return;
    data = [];
    count.textContent = "Unpacking …";
    try {
      data = await unpack();
    } catch (error) {
      count.textContent = `The rollouts cannot be unpacked by this browser: ${error}`;
      return;
    }
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 120); });
    previous.addEventListener("click", () => turn(-1));
    next.addEventListener("click", () => turn(1));
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      if (event.key === "/") { event.preventDefault(); form.elements.search.focus(); }
      if (event.key === "n" && !next.disabled) turn(1);
      if (event.key === "p" && !previous.disabled) turn(-1);
    });
    apply();
  };
  // Nothing is unpacked before someone comes near.
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); start(); }
  }, { rootMargin: "800px" }).observe(section);
})();
