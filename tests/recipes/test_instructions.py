"""From a base of text to one that answers: chat, preference and reward, by commands and served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
import transformers as hf
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import ConfigError, DataError
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.inference.critique import preferred
from broadbase.inference.rewards import best_of, rewards
from broadbase.recipes.resolve import resolve
from broadbase.run.run import Run
from broadbase.weights.folder import load
from support.chats import WORDS, chats, json_lines, preferences, talk
from support.serving import service_of, serving

QUICK = ["machine.device=cpu", "machine.precision=fp32", "data.holdout=0.2", "schedule.warmup=0"]
GREEDY = SamplingConfig(temperature=0)
QUICK += ["data.final_rows=4", "data.validation_rows=4", "data.rejects=0.2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "texts").mkdir()
    for i in range(30):
        (folder / "texts" / f"{i}.txt").write_text(" ".join(WORDS[i % 7 :] * 3))
    json_lines(folder / "chats.jsonl", [{"messages": each} for each in chats(40)])
    json_lines(folder / "pairs.jsonl", preferences(40))
    return folder


def trained(recipe: str, data: Path, out: Path, steps: int, *changes: str, **more: Any) -> Path:
    config = resolve(
        recipe, str(data), 1, [*QUICK, *changes], steps=steps, batch_size=4, context=64, **more
    )
    Run.create(config, out).train()
    return out


@pytest.fixture(scope="module")
def text(data: Path) -> Path:
    small = "model.modalities.text.vocab_size=300"
    return trained("text", data / "texts", data / "text", 2, small)


@pytest.fixture(scope="module")
def chat(data: Path, text: Path) -> Path:
    return trained("chat", data / "chats.jsonl", data / "chat", 30, init_from=str(text))


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_chat_run_starts_from_the_weights_and_the_tokenizer_of_its_base(
    text: Path, chat: Path
) -> None:
    config = Run.open(chat).config
    modality: Any = config.model.modalities["text"]
    assert modality.name == "chat"
    assert modality.by == Run.open(text).config.model.modalities["text"]
    start = Run.open(chat).base().codec()[1]
    assert start.encode("red bird").values.tolist() == (
        load(text).codec()[1].encode("red bird").values.tolist()
    )
    rows = [json.loads(line) for line in (chat / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"]["text"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0] - 0.5


def test_transformers_writes_and_answers_the_same_chat(chat: Path) -> None:
    base = load(chat)
    tokenizer = hf.AutoTokenizer.from_pretrained(chat / "model")
    messages = talk("say red, 1?", "red 1", "and blue?")
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    segment = base._begun("text", [messages])
    assert segment.values[0].tolist() == ids
    model = hf.AutoModelForCausalLM.from_pretrained(chat / "model").eval()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
    ours = base.logits(messages)[-1]
    assert torch.allclose(ours, logits, atol=1e-4)


def test_the_base_answers_chats_over_http_as_in_python(chat: Path) -> None:
    base = load(chat)
    messages = talk("say red, 1?")
    with serving(service_of({"chat": base})) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        answer = client.chat.completions.create(
            model="chat", messages=messages, max_tokens=8, temperature=0
        )
    ours = base.generate(messages, max_new_tokens=8, sampling=GREEDY)
    assert answer.choices[0].message.content == ours
    said = invoke("generate", chat, "--chat", "--prompt", "say red, 1?", "--temperature", 0,
                  "--max-new-tokens", 8)  # fmt: skip
    assert said.exit_code == 0, said.output
    assert said.stdout.strip() == ours.strip()


def test_preferences_move_a_base_from_its_start_and_resume(
    data: Path, chat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "dpo"
    trained("preference", data / "pairs.jsonl", out, 12, "optim.lr=0.003", init_from=str(chat))
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"]["preference"] for row in rows if "loss" in row]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)  # the model is its reference
    assert losses[-1] < losses[0] - 0.01
    base = load(out)
    assert isinstance(base.generate(talk("say red, 1"), max_new_tokens=4), str)
    run = Run.open(out)
    assert run.config.init_from is not None
    moved = tmp_path / "moved"
    moved.mkdir()
    other = trained("text", data / "texts", moved / "text", 1,
                    "model.modalities.text.vocab_size=300")  # fmt: skip
    tree = run.config.tree() | {"init_from": str(other)}
    tree["train"] = tree["train"] | {"steps": 14}
    with pytest.raises((ConfigError, DataError)):
        run.with_config(type(run.config).from_tree(tree)).train()


def test_the_best_of_several_answers_is_that_of_the_highest_reward(
    data: Path, chat: Path, tmp_path: Path
) -> None:
    out = tmp_path / "reward"
    trained("reward", data / "pairs.jsonl", out, 30, "optim.lr=0.003", init_from=str(chat))
    judge, base = load(out), load(chat)
    good = [talk(row["prompt"], row["chosen"]) for row in preferences(40)]
    bad = [talk(row["prompt"], row["rejected"]) for row in preferences(40)]
    led = [a > b for a, b in zip(rewards(judge, good), rewards(judge, bad), strict=True)]
    assert sum(led) > 30
    alone = rewards(judge, good[:1])
    assert rewards(judge, good)[0] == pytest.approx(alone[0], abs=1e-4)  # padding does not count
    (ranked,) = best_of(base, judge, ["say red, 1"], 4, max_new_tokens=6)
    drawn = base.generate_batch([talk("say red, 1")] * 4, max_new_tokens=6)
    given = [talk("say red, 1", answer) for answer in drawn if answer.strip()]
    assert ranked.reward == pytest.approx(max(rewards(judge, given)), abs=1e-4)
    said = invoke("generate", chat, "--chat", "--prompt", "say red, 1", "--best-of", 4,
                  "--reward", out, "--max-new-tokens", 6)  # fmt: skip
    assert said.exit_code == 0, said.output
    with pytest.raises(ConfigError, match="has no head 'reward'"):
        rewards(base, good[:1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--best-of", 4], "give all of --chat"),
        (["--chat"], "add --prompt"),
        (["--chat", "--prompt", "a<|user|>"], "special token"),
    ],
)
def test_what_cannot_be_answered_is_said(chat: Path, words: list[Any], message: str) -> None:
    said = invoke("generate", chat, *words)
    assert said.exit_code != 0
    assert message in " ".join((said.output + str(said.exception)).split())


def test_a_base_of_texts_answers_no_chats(text: Path) -> None:
    said = invoke("generate", text, "--chat", "--prompt", "a")
    assert "pretrain chat --init-from RUN" in " ".join((said.output + str(said.exception)).split())


RULE = {
    "critique": "What is wrong with it?",
    "revision": "Write it again.",
    "question": "Which is shorter?",
}


def test_a_base_writes_preferences_over_its_own_revisions(chat: Path, tmp_path: Path) -> None:
    prompts, rules = tmp_path / "prompts.txt", json_lines(tmp_path / "rules.jsonl", [RULE])
    prompts.write_text("".join(f"say {word}\n" for word in WORDS[:6]))
    out = tmp_path / "pairs.jsonl"
    words = ["critique", chat, "--prompts", prompts, "--principles", rules, "--out", out,
             "--temperature", 2, "--max-new-tokens", 12]  # fmt: skip
    said = invoke(*words)
    assert said.exit_code == 0, said.output + str(said.exception)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert 0 < len(rows) <= 6
    assert all(row["chosen"] != row["rejected"] and row["probability"] >= 0.5 for row in rows)
    trained("preference", out, tmp_path / "run", 1, "data.rejects=1", init_from=str(chat))
    again = invoke(*words)
    assert "is there already" in again.output + str(again.exception)
    rules.write_text('{"critique": "a"}\n')
    wrong = invoke(*words[:6], "--out", tmp_path / "other.jsonl")
    assert "rules.jsonl:1: no principle" in " ".join((wrong.output + str(wrong.exception)).split())


def test_the_letter_that_a_base_likes_does_not_decide(chat: Path) -> None:
    base = load(chat)
    equal = preferred(base, RULE["question"], "say red", "red", "red")
    assert equal == pytest.approx(0.5, abs=1e-6)
    one = preferred(base, RULE["question"], "say red", "red", "blue bird")
    other = preferred(base, RULE["question"], "say red", "blue bird", "red")
    assert one == pytest.approx(1 - other, abs=1e-6)
