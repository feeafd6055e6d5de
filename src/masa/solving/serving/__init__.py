"""The solver behind an endpoint that speaks the protocol of OpenAI's chat completions. Needs the extra `serve`."""
