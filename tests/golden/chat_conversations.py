"""The conversations that every chat template is rendered with: what a client may send.

Each is {"name", "messages"} and, where it differs from the defaults, "tools", "documents",
"add_generation_prompt" (default true), "continue_final_message" (default false), "kwargs".
"""


def tool(name, description, **properties):
    required = [key for key, value in properties.items() if "default" not in value]
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function",
            "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool("get_weather", "Get the weather of a city.",
               city={"type": "string", "description": "The city, e.g. Paris"},
               unit={"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"})
SUM = tool("add", "Adds numbers & returns <sum>.",
           numbers={"type": "array", "items": {"type": "number"}, "description": "What to add"},
           exact={"type": "boolean", "description": "No rounding", "default": False})
NESTED = tool("book_trip", "Books a \"trip\"\nwith several lines.",
              traveller={"type": "object", "description": "Who",
                         "properties": {"name": {"type": "string"},
                                        "age": {"type": ["integer", "null"]},
                                        "tags": {"type": "array", "items": {"type": "string"}}},
                         "required": ["name"]},
              dates={"type": "array", "items": {"type": "object", "properties": {
                  "from": {"type": "string", "format": "date"}, "nights": {"type": "integer"}}}},
              class_={"anyOf": [{"type": "string"}, {"type": "null"}], "default": None})
NO_PARAMETERS = {"type": "function", "function": {"name": "now", "description": "The time.",
                                                  "parameters": {"type": "object", "properties": {}}}}
TOOLS = [WEATHER, SUM]
DOCUMENTS = [{"title": "Bees", "text": "Bees make honey."},
             {"title": "L'été <1>", "text": "Il fait chaud.\nTrès \"chaud\".", "doc_id": 7}]


def system(content="You are a helpful assistant."):
    return {"role": "system", "content": content}


def user(content="Hello, who are you?"):
    return {"role": "user", "content": content}


def assistant(content="I am a model.", **more):
    return {"role": "assistant", "content": content, **more}


def call(name, arguments, call_id="call12345"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content, call_id="call12345", name="get_weather"):
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": content}


def text(*parts):
    return [{"type": "text", "text": part} for part in parts]


PARIS = call("get_weather", {"city": "Paris", "unit": "celsius"})
ASKED = [user("What is the weather in Paris?"), assistant("", tool_calls=[PARIS])]
ANSWERED = [*ASKED, result("{\"temperature\": 21.5}")]


def case(name, messages, **more):
    return {"name": name, "messages": messages, **more}


CONVERSATIONS = [
    case("one user message", [user()]),
    case("system and user", [system(), user()]),
    case("no generation prompt", [system(), user(), assistant()], add_generation_prompt=False),
    case("three turns", [system(), user(), assistant(), user("And now?"), assistant("Later."),
                         user("When?")]),
    case("three turns without system", [user(), assistant(), user("And now?"), assistant("Later."),
                                        user("When?")]),
    case("no messages", []),
    case("no messages and no prompt", [], add_generation_prompt=False),
    case("system alone", [system()]),
    case("two users in a row", [user(), user("Anybody?")]),
    case("two systems", [system(), user(), system("Be brief."), user("Go on.")]),
    case("assistant first", [assistant("Hello!"), user("Hi.")]),
    case("unknown role", [user(), {"role": "narrator", "content": "It rained."}]),
    case("developer role", [{"role": "developer", "content": "Be brief."}, user()]),
    case("empty content", [system(""), user("")]),
    case("white space", [system("  two spaces \n"), user("\n\tHi \u00a0\u3000\n"),
                         assistant("  yes  \n\n"), user(" \n")]),
    case("unicode", [system("Répondez en français."), user("Größe: 5 µm 👩‍👩‍👧 \u2028 日本語 ‏עברית"),
                     assistant("Ça va — «bien»."), user("ÅÄÖ ẞ ﬁ")]),
    case("markup in content", [user("<think>no</think> <|im_end|> [INST] {{ 7 * 7 }} {% raw %} </s>"),
                               assistant("<tool_call>{}</tool_call>"), user("& < > ' \" \\ \\n")]),
    case("null content", [user(), {"role": "assistant", "content": None}, user("Well?")]),
    case("no content", [user(), {"role": "assistant"}, user("Well?")]),
    case("content in parts", [system(), user(text("Look at this:", "and this.")), assistant(),
                              user(text("Thanks."))]),
    case("system in parts", [{"role": "system", "content": text("Be kind.")}, user(text("Hi."))]),
    case("an image", [user([{"type": "image"}, *text("What is it?")])]),
    case("an image url", [user([*text("What is it?"),
                                {"type": "image_url", "image_url": {"url": "http://x/y.png"}}])]),
    case("empty parts", [user([])]),
    case("tools", [system(), user("Weather in Paris?")], tools=TOOLS),
    case("tools without system", [user("Weather in Paris?")], tools=[WEATHER]),
    case("nested tools", [user("Book it.")], tools=[NESTED, NO_PARAMETERS]),
    case("no tools in the list", [system(), user()], tools=[]),
    case("a call", [*ASKED], tools=TOOLS),
    case("a call and its result", [*ANSWERED], tools=TOOLS),
    case("a call, its result, a reply", [system(), *ANSWERED, assistant("It is 21.5 °C."),
                                         user("Thanks.")], tools=TOOLS),
    case("calls without tools", [*ANSWERED, assistant("21.5 °C.")], add_generation_prompt=False),
    case("arguments as text", [user("Weather?"), assistant(None, tool_calls=[
        call("get_weather", "{\"city\": \"Zürich\"}")]), result("cold")], tools=TOOLS),
    case("a call with content", [user("Weather?"), assistant("Let me look.", tool_calls=[PARIS]),
                                 result("warm")], tools=TOOLS),
    case("parallel calls", [user("Paris and Rome?"), assistant("", tool_calls=[
        call("get_weather", {"city": "Paris"}, "aaaaaaaaa"),
        call("get_weather", {"city": "Rome"}, "bbbbbbbbb")]),
        result("18", "aaaaaaaaa"), result("27", "bbbbbbbbb")], tools=TOOLS),
    case("calls without ids", [user("Paris?"), assistant("", tool_calls=[
        {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]),
        {"role": "tool", "content": "18"}], tools=TOOLS),
    case("odd arguments", [user("Add."), assistant("", tool_calls=[call("add", {
        "numbers": [1, 2.5, -3e-7, 1e22, 0.1, 12345678901234567], "exact": True, "none": None,
        "text": "a\"b\\c\n\té\u2028</script>", "map": {"z": 1, "a": [], "m": {}}})]),
        result("4.5", name="add")], tools=TOOLS),
    case("a result in parts", [*ASKED, result(text("21", "degrees"))], tools=TOOLS),
    case("a result that is a map", [*ASKED, result({"temperature": 21, "sky": ["blue"]})],
         tools=TOOLS),
    case("two rounds of calls", [*ANSWERED, assistant("And the sum?", tool_calls=[
        call("add", {"numbers": [1, 2]}, "second123")]), result("3", "second123", "add"),
        assistant("3."), user("Good.")], tools=TOOLS),
    case("reasoning", [user("2 + 2?"), assistant("4", reasoning_content="Two and two.\nFour."),
                       user("3 + 3?")]),
    case("reasoning in content", [user("2 + 2?"),
                                  assistant("<think>\nTwo and two.\n</think>\n\n4"), user("3 + 3?"),
                                  assistant("<think>six</think>6")], add_generation_prompt=False),
    case("reasoning before a call", [user("Weather?"), assistant(
        "", reasoning_content="I must look.", tool_calls=[PARIS]), result("warm")], tools=TOOLS),
    case("thinking off", [system(), user()], kwargs={"enable_thinking": False, "thinking": False}),
    case("thinking on", [user(), assistant(), user("Why?")],
         kwargs={"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}),
    case("other arguments", [system(), user()], tools=[WEATHER],
         kwargs={"date_string": "01 Jan 2026", "tools_in_user_message": False, "custom_tools": None,
                 "model_identity": "You are X.", "builtin_tools": ["browser", "python"],
                 "citations": True, "controls": {"length": "long"}, "date": "2026-01-01"}),
    case("documents", [system(), user("What do bees make?")], documents=DOCUMENTS),
    case("documents and tools", [user("What do bees make?")], documents=DOCUMENTS[:1], tools=TOOLS),
    case("continue the reply", [system(), user(), assistant("I am a ")],
         add_generation_prompt=False, continue_final_message=True),
    case("continue after a trim", [user(), assistant("One, two,  ")],
         add_generation_prompt=False, continue_final_message=True),
]
