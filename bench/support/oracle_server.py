"""A scripted server that answers BFCL questions with their gold calls, or with an error for some of them."""

import json

from bench.support.servers import chat_completion
from fixtures.data.bfcl import gold_calls


def asked(messages):
    """The text of a conversation without the results of tools."""
    return "\n".join(message["content"] for message in messages if message["role"] != "tool")


def answering(examples, failing=(), wrong=()):
    """A script for `serving`: gold calls, or words if there are none.

    Items in `wrong` get no call, those in `failing` status 500.
    """
    by_question = {asked(example.messages): example for example in examples}

    def script(request, handler):
        question = asked(request["messages"])
        example = next((by_question[text] for text in (question, request["messages"][-1]["content"])
                        if text in by_question), None)  # fmt: skip
        if example is None or example.id in failing:
            return 500, {"error": {"message": "boom"}}, [("x-should-retry", "false")]
        if example.id in wrong:
            return 200, chat_completion("I cannot help.")
        if not (calls := gold_calls(example)):
            return 200, chat_completion("No tool fits.")
        return 200, chat_completion(calls=[(call.name, json.dumps(call.arguments)) for call in calls])

    return script
