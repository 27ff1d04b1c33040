"""An engine in which vLLM decodes; the only place that imports vllm."""
