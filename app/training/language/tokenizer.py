"""Byte-level BPE tokenizer of the bundled model: training, chat template, encoding of conversations.

Knows the special tokens and the one way a conversation becomes token ids. The chat template written
into the tokenizer's files renders exactly what ``encode_conversation`` renders.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from app.training.language.corpus import Conversation

PAD, BEGIN, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
SPECIAL_TOKENS = [PAD, BEGIN, END, USER, ASSISTANT, SYSTEM]
CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learn a byte-level BPE of ``vocabulary`` entries; ids 0-5 are the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path, context: int) -> None:
    """Write the files that transformers and vLLM load, chat template included."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        model_max_length=context,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(directory)


def encode_conversations(tokenizer: Tokenizer, conversations: Sequence[Conversation]) -> list[list[int]]:
    """Token ids of each conversation, as the chat template renders it; prose has no role marks."""
    return [encoding.ids for encoding in tokenizer.encode_batch([render(one) for one in conversations])]


def render(conversation: Conversation) -> str:
    """The conversation as one string with special tokens."""
    if conversation.turns[0][0] == "text":
        return BEGIN + conversation.turns[0][1] + END
    return BEGIN + "".join(f"<|{role}|>{text}{END}" for role, text in conversation.turns)
