"""Texts that break what reads them carelessly, for the property tests and as the fuzzer's first inputs."""

from __future__ import annotations

SCRIPT = "</script></pre><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
GOOD_PREDICTION = '<meta>sum</meta>{"math_notion": ["sum", "\\\\frac{a}{b}"], "pass_rate": 6, "solution_length": 400}'

HOSTILE: dict[str, str] = {
    "nothing": "",
    "a null byte": "\x00",
    "deep objects": '{"a":' * 3000,
    "deep lists": "[" * 3000 + "]" * 3000,
    "deep boxes": "\\boxed{" * 3000 + "1" + "}" * 3000,
    "braces": "{" * 20_000,
    "closed braces": "{}" * 10_000,
    "beginnings of objects": '{"' * 10_000,
    "a lone high surrogate": '\ud800 </meta>{"notion": ["\ud800"]} \\boxed{\ud800}',
    "a lone low surrogate": '\udfff </meta>{"notion": ["\\udfff"]} Answer: \udfff',
    "a huge integer": '</meta>{"pass_rate": ' + "9" * 5000 + "} \\boxed{" + "9" * 5000 + "}",
    "a huge exponent": '</meta>{"pass_rate": 1e99999, "solution_length": 1e-99999} \\boxed{1e99999}',
    "an integer beyond floats": '</meta>{"solution_length": ' + "9" * 400 + "} \\boxed{" + "9" * 400 + "+1j}",
    "a tower of powers": "\\boxed{9^9^9^9^9^9}",
    "NaN": '</meta>{"pass_rate": NaN, "solution_length": Infinity, "notion": [-Infinity]} \\boxed{NaN}',
    "duplicate keys": '</meta>{"pass_rate": 1, "pass_rate": "x", "pass_rate": 8, "notion": 1, "notion": ["a"]}',
    "right-to-left marks": '\u202e</meta>{"notion": ["\u202eevil\u2066"]} \u200f\\boxed{\u202e12\u202c}',
    "other digits": "\\boxed{\u0663\u0664} Answer: \u0967\u00b2\u2460",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x85\u2028\u2029\ufeff",
    "combining marks": "a" + "\u0301" * 5000,
    "escapes": '{"notion": ["\\ud800\\u0000\\\\\\"\\x"]}' + "\\" * 5000,
    "markup": SCRIPT,
    "template braces": "{{constructor.constructor('x')()}} ${7*7} %(a)s {0} {problem} <%= 1 %>",
    "statements without an answer": "answer: " * 3000,
    "headings without an answer": "Answer:\n" * 3000,
    "answers that are none": "Answer: not\n" * 3000,
    "open tags": "<answer>" * 3000,
    "dollars": "$" * 5001,
    "a long space": "Answer: " + " " * 20_000 + "x",
    "options": "A) B) C) and D or E " * 1000,
    "minus signs": "-" * 9000 + "1",
    "a sum as a literal": "1+" * 4000 + "1j",
    "a good prediction": GOOD_PREDICTION,
    "a good answer": "Because \\boxed{12} and <answer>(B) blue</answer>, the answer is $\\frac{1}{2}$.",
}

CONFIGS: dict[str, bytes] = {
    "a good one": b"data: bundled\npreset: masa\nnum_generations: 4\nproblems_per_step: 2\nlearning_rate: 1e-4\n",
    "heldout": b"data: [{source: bundled, size: 9}]\nheldout: {data: bundled, solutions: 2}\nlora: {r: 8}\n",
    "nothing": b"",
    "no UTF-8": b"data: \xff\xfe",
    "a null byte": b"data: \x00",
    "a lone surrogate": b'data: "\\ud800"\n',
    "deep lists": b"data: " + b"[" * 3000,
    "deep mappings": b"data: " + b"{a: " * 3000,
    "a list in itself": b"data: &a [*a]\n",
    "a mapping in itself": b"data: bundled\nlora: &a {x: *a}\n",
    "many laughs": b"data: bundled\nlora:\n  a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"  %c: &%c [%s]\n" % (97 + i, 97 + i, b",".join([b"*%c" % (96 + i)] * 9)) for i in range(1, 12)),
    "a date that is none": b"data: 2001-99-99\n",
    "a number that is none": b"data: bundled\nseed: 0b\nmax_tokens: 0x_\n",
    "tags": b"data: !!python/object/apply:os.system [x]\n",
    "tags of wrong types": b"data: bundled\nseed: !!int x\ntop_p: !!float x\nbf16: !!bool x\n",
    "a bad timestamp": b"data: !!timestamp x\n",
    "a huge integer": b"data: bundled\nseed: " + b"9" * 5000 + b"\nlearning_rate: " + b"9" * 400 + b"\n",
    "NaN": b"data: bundled\nlearning_rate: .nan\ntemperature: .inf\nmax_minutes: .nan\nmax_tokens: -.inf\n",
    "duplicate keys": b"data: bundled\ndata: [1]\nseed: 1\nseed: x\n",
    "keys of other types": b"1: 2\nnull: 3\n[a]: 4\n2.5: 1\ndata: {1: 2, source: x}\nheldout: {3: 4}\n",
    "right-to-left marks": "data: \u202ebundled\n\u202eseed: 1\n".encode(),
    "TRL's own settings": b"data: bundled\noptim: x\nlr_scheduler_type: y\ndeepspeed: none.json\nfsdp: z\n",
    "accelerate": b"data: bundled\naccelerator_config: {a: 1}\nreport_to: [wandb]\nuse_vllm: true\nddp_backend: x\n",
}

ROWS: dict[str, bytes] = {
    "a good one": b'{"problem": "1 + 1", "answer": 2, "kind": "math", "task": "sum/1"}\n',
    "messages": b'{"prompt": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "answer": "y"}\n',
    "nothing": b"",
    "no UTF-8": b'{"problem": "\xff", "answer": 1}\n',
    "a lone surrogate": b'{"problem": "\\ud800", "answer": "\\udfff"}\n',
    "deep lists": b'{"problem": ' + b"[" * 100_000 + b"\n",
    "deep objects": b'{"a":' * 100_000 + b"\n",
    "a huge integer": b'{"problem": "x", "answer": ' + b"9" * 5000 + b"}\n",
    "an integer beyond floats": b'{"problem": "x", "answer": ' + b"9" * 400 + b"}\n",
    "NaN": b'{"problem": "x", "answer": NaN}\n{"problem": "x", "answer": -Infinity}\n',
    "an overflow": b'{"problem": "x", "answer": 1e999}\n',
    "duplicate keys": b'{"problem": 1, "problem": "x", "answer": [], "answer": "2"}\n',
    "right-to-left marks": '{"problem": "\u202ex", "answer": "\u200f1"}\n'.encode(),
    "wrong types": b'{"problem": {}, "answer": true, "kind": [1]}\n[1]\nnull\n"x"\n',
    "a strange kind": b'{"problem": "x", "answer": "1", "kind": {"a": 1}}\n',
    "a kind with a surrogate": b'{"problem": "x", "answer": 1, "kind": "\\ud800"}\n',
    "strange messages": b'{"prompt": [{"content": "x"}, {"role": "user", "content": 1}], "answer": "y"}\n',
    "messages without roles": b'{"prompt": [{"content": "x"}, {"role": "user", "content": "x"}], "answer": "y"}\n',
    "a message after the user's": b'{"prompt": [{"role": "user", "content": "x"}, {"role": "a", "content": 1}],'
    b' "answer": "y"}\n',
    "a prompt beside the problem": b'{"problem": "x", "answer": "y", "prompt": [1, {"role": 2}]}\n',
    "an array": b'[{"problem": "x", "answer": 1}, 3]',
}

RUN_FILES: dict[str, bytes] = {
    "a small run": b"\n---\n".join(
        [
            b'{"role": "solution", "problem": 1, "text": "x", "correct": true, "length": 3, "finish_reason": "stop"}\n'
            b'{"role": "meta", "problem": 1, "text": "x", "prediction": {"pass_rate": 0.5, "length": 3}}\n',
            b'{"step": 1, "pass_rate": 0.5, "phase": "parallel", "gate/share": 0.1, "tokens/generated": 100}\n'
            b'{"step": 2, "pass_rate": 0.6, "phase": "predictive", "groups/live_share": 0.5}\n',
            b'{"step": 0, "pass_at_1": 0.5, "by_task": {"sum/1": 0.5}, "points": [[0.1, 0.2, 3, 4]]}\n'
            b'{"step": 2, "pass_at_1": 0.6, "by_task": {"sum/1": 0.7}, "points": [[0.1, 0.2, 3, 4]]}\n',
            b'{"solution_tokens": 100, "meta_tokens": 3, "seconds": {"rollout": 3}}',
            b"preset: masa\nrun: {seeds: {seed: 0}}\n",
        ]
    ),
    "huge integers": b"\n---\n".join(
        [
            b'{"role": "solution", "problem": 1, "length": %s, "reward": 1e999, "correct": true}\n' % (b"9" * 400),
            b'{"step": %s, "pass_rate": %s}\n' % (b"9" * 400, b"9" * 400),
            b'{"step": NaN, "pass_at_1": Infinity, "points": [[NaN, 1e308, -1e308, %s]]}\n' % (b"9" * 400),
            b'{"solution_tokens": %s}' % (b"9" * 400),
            b"a: .nan\n",
        ]
    ),
    "a ledger that is none": b"\n---\n\n---\n\n---\n[1]",
    "a ledger that is no JSON": b"\n---\n\n---\n\n---\n{",
    "a deep ledger": b"\n---\n\n---\n\n---\n" + b"[" * 100_000,
    "no UTF-8": b"\xff\n---\n\xff\n---\n\xff\n---\n\xff\n---\n\xff",
    "settings that YAML cannot read": b"\n---\n\n---\n\n---\n{}\n---\na: 2001-99-99\n",
    "deep settings": b"\n---\n\n---\n\n---\n{}\n---\na: " + b"{a: " * 3000,
    "a mapping in itself": b"\n---\n\n---\n\n---\n{}\n---\na: &a {x: *a}\n",
    "texts for numbers": b'{"role": {}, "problem": [], "prediction": {"pass_rate": "x"}, "correct": "yes", "task": 7}\n'
    b'---\n{"step": "x", "phase": []}\n---\n{"step": 1, "by_task": {"a": "b"}, "points": {"a": 1}, "name": [1]}',
}
