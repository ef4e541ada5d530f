"""Figure 5 (v2): greedy answers to test problems without the token that contrastive estimation
scores lowest.

The paper gives no procedure. Here the lowest of an answer's scores names one token, gold answers
unseen; it is masked, and decoding goes on greedily from the most probable other token. Right
answers lose a token as wrong ones do.
"""

from __future__ import annotations

from pathlib import Path

from critical_tokens.core import provenance, records
from critical_tokens.workflow import command_line, sampling_arguments


def main() -> None:
    parser = command_line.parser(__doc__)
    sampling_arguments.add_model(parser)
    sampling_arguments.add_sampling(parser)
    sampling_arguments.add_grader(parser)
    sampling_arguments.add_prompt(parser)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="use the first so many problems")
    parser.add_argument("--answers", type=Path, required=True, help="the base model's answers to them")
    parser.add_argument("--positive", type=Path, required=True, help="adapter_model.safetensors of the positive model")
    parser.add_argument("--negative", type=Path, required=True, help="adapter_model.safetensors of the negative model")
    parser.add_argument("--beta", type=float, required=True, help="contrast factor")
    parser.add_argument("--max-batch-tokens", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = provenance.Run("exclude_critical", args)

    from critical_tokens.data import prompts
    from critical_tokens.decoding.distributions import GREEDY
    from critical_tokens.engines.opening import EngineSettings
    from critical_tokens.models import checkpoints
    from critical_tokens.objectives import contrast, log_probabilities
    from critical_tokens.rollouts import branching, examination
    from critical_tokens.rollouts.sampler import Sampler, seed_of

    source, prompt = sampling_arguments.model_source(args), sampling_arguments.prompt(args)
    tokenizer = checkpoints.load_tokenizer(source)
    eos = tokenizer.eos_token_id
    problems = records.ByProblem(records.read_table(args.problems, "problems")[: args.limit], args.problems)
    answered = [r for r in records.read_table(args.answers, "trajectories") if r["token_ids"]]
    asked = [problems[r["problem_id"]] for r in answered]
    encoded = prompts.encode_prompts(tokenizer, [p["question"] for p in asked], prompt)
    items = [
        log_probabilities.PromptCompletion(ids, prompts.with_eos(r["token_ids"], r["finished"], eos))
        for ids, r in zip(encoded, answered, strict=True)
    ]
    # Both contrastive models are gone before the base model comes.
    pair = [checkpoints.load_model(source, [adapter]) for adapter in (args.positive, args.negative)]
    contrasts = contrast.contrastive_scores(*pair, items, args.beta, args.max_batch_tokens)
    pair.clear()
    sampler = Sampler(source, [], prompt, EngineSettings(args.max_batch_tokens), args.grader)
    trajectories = [
        branching.Trajectory(
            r["problem_id"],
            tuple(ids),
            tuple(r["token_ids"]),
            sampler.grader(p["answer"]),
            seed_of(args.seed, r["problem_id"]),
        )
        for r, p, ids in zip(answered, asked, encoded, strict=True)
    ]
    lowest = [
        min(range(len(t.answer)), key=scored.scores.__getitem__)
        for t, scored in zip(trajectories, contrasts, strict=True)
    ]
    generation = examination.generation_settings(sampler, GREEDY, args.max_new_tokens)
    others = branching.replace_token(sampler.engine, trajectories, lowest, 1, generation, GREEDY)
    rows = [
        {
            "problem_id": t.name,
            "sample_id": 0,
            "arm": arm,
            "draw": 0,
            "token_id": token,
            "answer": list(answer),
            "correct": right,
        }
        for t, position, (other,) in zip(trajectories, lowest, others, strict=True)
        for arm, token, answer, right in (
            ("kept", t.answer[position], t.answer, t.grader(t.answer)),
            ("excluded", other.token_id, other.answer, other.correct),
        )
    ]
    records.write_table(args.output, "replacement", rows)
    run.describe(args.output, answers=len(trajectories), unanswered=len(problems) - len(trajectories))


if __name__ == "__main__":
    command_line.run(main)
