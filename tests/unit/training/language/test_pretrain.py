import json
import lzma
from itertools import islice

import pytest
import torch

from app.training.language.export import export_checkpoint, repetition, score_domains
from app.training.language.network import NetworkShape
from app.training.language.pretrain import LanguageTrainer, Recipe
from app.training.language.tokenizer import encode_conversations

SHAPE = NetworkShape(vocabulary=400, hidden=64, layers=1, heads=1, key_heads=1, feed_forward=64, context=64)
RECIPE = Recipe(tokens=4096, broad_length=32, chat_length=64, batch_tokens=512, warmup_steps=2)


def lines(path, rows):
    path.parent.mkdir(parents=True)
    with lzma.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    things = ["bread", "tea", "soup", "a garden", "a letter", "music", "a cat", "the sea", "a train", "a book"]
    rows = [
        {
            "instruction": f"How do I like {thing} number {i}?",
            "context": "",
            "response": f"Take {thing}, and enjoy it slowly.",
        }
        for i in range(20)
        for thing in things
    ]
    lines(root / "dolly15k/dolly.jsonl.xz", rows)
    message = {"p_assistant": 0.9, "inferred_parent": -1, "inferred_conf": 0.0, "idx": 0}
    lines(root / "oasst1_en/train_messages.jsonl.xz", [message | {"text": "The sea is wide and calm today. " * 8}])
    lines(root / "gpteacher_roleplay/roleplay.jsonl.xz", [])
    lines(root / "sgd_dialogues/dialogues.jsonl.xz", [])
    lines(root / "natural_instructions_en/instances_permissive.jsonl.xz", [])
    return root


def trainer(run, data, recipe=RECIPE):
    return LanguageTrainer(run, data, recipe, SHAPE, compiled=False)


def test_a_run_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(tmp_path, data):
    whole, interrupted = trainer(tmp_path / "a", data), trainer(tmp_path / "b", data)
    whole.run()
    pass_of = interrupted._pass
    interrupted._pass = lambda chat: islice(pass_of(chat), 2)
    interrupted.progress.begin_pass = lambda chat: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    interrupted.save()
    resumed = trainer(tmp_path / "b", data)
    assert 0 < resumed.progress.seen < RECIPE.tokens
    resumed.run()
    torch.testing.assert_close(resumed.network.output.weight, whole.network.output.weight)


def test_a_finished_run_goes_on_with_a_larger_budget(tmp_path, data):
    short = Recipe(**(vars(RECIPE) | {"tokens": 2048}))
    trainer(tmp_path, data, short).run()
    resumed = trainer(tmp_path, data)
    assert resumed.progress.seen == 2048
    resumed.run()
    assert resumed.progress.seen == 4096


def test_the_same_seed_trains_the_same_weights(tmp_path, data):
    first, second = trainer(tmp_path / "a", data), trainer(tmp_path / "b", data)
    first.run()
    second.run()
    torch.testing.assert_close(first.network.output.weight, second.network.output.weight)


def test_the_rate_rises_stays_and_falls(data):
    recipe = Recipe(tokens=1000, decay_share=0.4, warmup_steps=10)
    assert recipe.scale(0, 0) == pytest.approx(0.1)
    assert recipe.scale(500, 50) == 1.0
    assert recipe.scale(800, 80) == pytest.approx(0.5)
    assert recipe.scale(1000, 100) == pytest.approx(0.02)


def test_a_run_exports_a_checkpoint_that_the_engine_loads(tmp_path, data):
    from app.rewards.language import load_language_model

    done = trainer(tmp_path / "run", data)
    done.run()
    export_checkpoint(tmp_path / "run", tmp_path / "model", SHAPE)
    model = load_language_model(tmp_path / "model")
    assert model.context == SHAPE.context


def test_the_chat_template_renders_what_training_read(tmp_path, data):
    from transformers import AutoTokenizer

    done = trainer(tmp_path / "run", data)
    done.run()
    export_checkpoint(tmp_path / "run", tmp_path / "model", SHAPE)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "model")
    one = done.training[0]
    messages = [{"role": role, "content": text} for role, text in one.turns]
    ids = loaded.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert ids == encode_conversations(done.tokenizer, [one])[0]


def test_held_out_scores_name_their_domains(tmp_path, data):
    scores = score_domains(trainer(tmp_path, data))
    assert [score.domain for score in scores] == ["dolly"]
    assert 0 < scores[0].bits_per_byte < 20


def test_loops_are_counted_as_loops():
    measures = repetition(["the sea is wide " * 5, "every word of this text stands here only once"])
    assert measures["loops"] == 0.5
    assert measures["repeated"] > 0.4
    assert measures["distinct"] == 1.0
