"""The bundled language model: its text, tokenizer, network, training and card."""
