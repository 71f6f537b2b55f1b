"""Short rows of a user's own data: questions about lamps, each with one tool and its call."""


def lamp(k):
    """The k-th row; two rows share a tool."""
    name, schema = f"lamp_{k // 2}", {"type": "object", "properties": {"level": {"type": "integer"}}}
    call = {"type": "function", "function": {"name": name, "arguments": {"level": k}}}
    question = {"role": "user", "content": f"{['dim', 'brighten'][k % 2]} the lamp of room {chr(65 + k)} to {k}"}
    tools = [{"type": "function", "function": {"name": name, "parameters": schema}}]
    return {"messages": [question, {"role": "assistant", "tool_calls": [call]}], "tools": tools}
