// What llama.cpp makes of an exported GGUF file: the share that each class token gets after a prompt. Run by hand;
// docs/export.md says how, and what came out.
//
//     node llama_check.mjs MODEL.gguf PROMPT WORD WORD…
//
// Needs the npm package node-llama-cpp, which brings llama.cpp compiled for CPUs.

import { getLlama } from "node-llama-cpp";

const [file, prompt, ...words] = process.argv.slice(2);
const llama = await getLlama({ gpu: false, build: "never" });
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: 2048 });
const tokens = [model.tokens.bos, ...model.tokenize(prompt, false)];
const last = tokens.length - 1;
const input = tokens.map((token, i) =>
  i === last ? [token, { generateNext: { probabilities: true } }] : token,
);
const evaluated = await context.getSequence().controlledEvaluate(input);
const all = evaluated[last].next.probabilities;
const probabilities = words.map((word) => all.get(model.tokenize(word, false)[0]));
const sum = probabilities.reduce((a, b) => a + b, 0);
words.forEach((word, i) => {
  const [p, share] = [probabilities[i], probabilities[i] / sum];
  console.log(`${word}  p ${p.toExponential(4)}  share ${share.toFixed(6)}`);
});
process.exit(0);
