// What a chat says of its messages and to its template, and what the template is given.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>

#include "router/http/chat_input.h"
#include "router/http/generation.h"
#include "router/http/openai_request.h"
#include "router/text/chat_template.h"

namespace tandem::http {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// Prints what it was given, as Python would.
constexpr char kPrinting[] =
    "{{ messages | tojson }}|{{ add_generation_prompt }}|{{ documents | tojson }}|"
    "{{ enable_thinking is defined and enable_thinking }}|{{ reasoning_effort }}|{{ extra }}";

text::ChatTemplate Parsed(std::string_view source) {
  auto chat = text::ChatTemplate::Parse(source, "<s>", "</s>");
  EXPECT_TRUE(chat.ok()) << chat.status();
  return *std::move(chat);
}

std::optional<ApiError> ParseChat(std::string_view messages, std::string_view more, ApiRequest& r) {
  return ParseRequest(Endpoint::kChat,
                      fmt::format(R"({{"model":"m","messages":{}{}}})", messages, more), r);
}

std::string Rendered(std::string_view messages, std::string_view more = {},
                     std::string_view source = kPrinting) {
  ApiRequest r;
  if (const auto error = ParseChat(messages, more, r))
    return fmt::format("{}: {}", error->param, error->message);
  const text::ChatTemplate chat = Parsed(source);
  if (const auto error = CheckTemplate(r, chat))
    return fmt::format("{}: {}", error->param, error->message);
  const auto text = RenderChat(r, chat);
  return text.ok() ? *text : std::string(Message(text.status()));
}

// What makes a prompt long is where a template may show it.
TEST(ChatRequest, AllThatATemplateMayShowTakesTime) {
  const std::string text(100'000, 'x');
  for (const char* messages : {
           R"([{{"role":"user","content":"{}"}}])",
           R"([{{"role":"assistant","content":"","reasoning_content":"{}"}}])",
           R"([{{"role":"assistant","tool_calls":[{{"id":"c","type":"function","function":)"
           R"({{"name":"f","arguments":{{"a":"{}"}}}}}}]}}])",
       }) {
    ApiRequest r;
    ASSERT_FALSE(ParseChat(fmt::format(fmt::runtime(messages), text), "", r)) << messages;
    EXPECT_GE(r.num_text_bytes(), text.size()) << messages;
  }
  for (const char* more :
       {R"(,"documents":[{{"t":"{}"}}])", R"(,"chat_template_kwargs":{{"t":"{}"}})",
        R"(,"tools":[{{"type":"function","function":{{"name":"f","description":"{}"}}}}])"}) {
    ApiRequest r;
    ASSERT_FALSE(
        ParseChat(R"([{"role":"user","content":"x"}])", fmt::format(fmt::runtime(more), text), r))
        << more;
    EXPECT_GE(r.num_text_bytes(), text.size()) << more;
  }
}

TEST(ChatRequest, AllPromptsOfACallTakeTime) {
  ApiRequest r;
  const std::string prompt = '"' + std::string(1000, 'x') + '"';
  const auto body = fmt::format(R"({{"model":"m","prompt":[{0},{0},{0}]}})", prompt);
  ASSERT_FALSE(ParseRequest(Endpoint::kCompletions, body, r));
  EXPECT_EQ(r.num_text_bytes(), 3000u);
}

TEST(ChatRequest, ACallIsServedByTheModelOfAnyPrompt) {
  ApiCall call;
  EXPECT_EQ(call.served_model(), "");
  call.generations.resize(3);
  call.generations[1].served_model = "m";  // the first prompt is still being read
  EXPECT_EQ(call.served_model(), "m");
}

constexpr char kOneUser[] = R"([{"role":"user","content":"x"}])";

TEST(ChatRequest, AConversationWithCallsReachesTheTemplate) {
  EXPECT_EQ(Rendered(R"([
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"n"},
      {"role":"assistant","content":null,"reasoning_content":"r","refusal":null,"annotations":[],
       "tool_calls":[{"id":"c1","type":"function",
                      "function":{"arguments":"{\"b\": 1, \"a\": [2.5, null]}","name":"f"}},
                     {"id":"c2","type":"function","function":{"name":"g","arguments":""}}]},
      {"role":"tool","tool_call_id":"c1","content":"7"}])"),
            R"([{"role": "user", "content": "a\nb", "name": "n"}, )"
            R"({"thinking": "r", "role": "assistant", "content": "", "tool_calls": [)"
            R"({"type": "function", "id": "c1", "function": {"name": "f", "arguments": )"
            R"({"b": 1, "a": [2.5, null]}}}, )"
            R"({"type": "function", "id": "c2", "function": {"name": "g", "arguments": {}}}], )"
            R"("reasoning_content": "r"}, )"
            R"({"role": "tool", "content": "7", "tool_call_id": "c1"}])"
            "|True|null|False||");
}

TEST(ChatRequest, SettingsReachTheTemplate) {
  const std::string messages = R"([{"role": "user", "content": "x"}])";
  EXPECT_EQ(Rendered(kOneUser, R"(,"chat_template_kwargs":{"enable_thinking":true,"extra":"e"})"),
            fmt::format("{}|True|null|True||e", messages));
  EXPECT_EQ(Rendered(kOneUser, R"(,"add_generation_prompt":false,"documents":[{"title":"t"}])"),
            fmt::format(R"({}|False|[{{"title": "t"}}]|False||)", messages));
  EXPECT_EQ(Rendered(kOneUser, R"(,"reasoning_effort":"low")"),
            fmt::format("{}|True|null|True|low|", messages));
  EXPECT_EQ(Rendered(kOneUser, R"(,"reasoning_effort":"none")"),
            fmt::format("{}|True|null|False|none|", messages));
  EXPECT_EQ(Rendered(kOneUser, R"(,"reasoning_effort":"low","chat_template_kwargs":)"
                               R"({"enable_thinking":false,"reasoning_effort":"high"})"),
            fmt::format("{}|True|null|False|low|", messages));
}

TEST(ChatRequest, DevelopersAreSystemWhereTheTemplateDoesNotKnowThem) {
  constexpr char kDeveloper[] = R"([{"role":"developer","content":"x"}])";
  EXPECT_EQ(Rendered(kDeveloper, {}, "{{ messages[0].role }}"), "system");
  EXPECT_EQ(Rendered(kDeveloper, {}, "{{ messages[0].role }}{# or developer #}"), "developer");
}

TEST(ChatRequest, TheLastMessageIsContinued) {
  constexpr char kBegun[] =
      R"([{"role":"user","content":"q"},{"role":"assistant","content":"one, "}])";
  constexpr char kTemplate[] =
      "{% for m in messages %}[{{ m.role }}]{{ m.content }}[end]{% endfor %}"
      "{% if add_generation_prompt %}[assistant]{% endif %}";
  constexpr std::string_view kContinue = R"(,"continue_final_message":true)";
  EXPECT_EQ(
      Rendered(kBegun, fmt::format(R"({},"add_generation_prompt":false)", kContinue), kTemplate),
      "[user]q[end][assistant]one, ");
  EXPECT_THAT(Rendered(kBegun, kContinue, kTemplate),
              HasSubstr("continue_final_message: 'continue_final_message' needs"));
  EXPECT_EQ(Rendered(kBegun, {}, kTemplate), "[user]q[end][assistant]one, [end][assistant]");
}

TEST(ChatRequest, WhatIsWrongWithAMessageIsNamed) {
  for (const auto& [message, param] : {
           std::pair{R"({"role":"function","content":"x"})", "role"},
           {R"({"role":"user"})", "content"},
           {R"({"role":"user","content":null})", "content"},
           {R"({"role":"user","content":"x","tool_calls":[{"function":{"name":"f"}}]})",
            "tool_calls"},
           {R"({"role":"user","content":"x","tool_call_id":"a"})", "tool_call_id"},
           {R"({"role":"system","content":"x","reasoning_content":"a"})", "reasoning_content"},
           {R"({"role":"assistant","tool_calls":[]})", "content"},
           {R"({"role":"assistant","tool_calls":{}})", "tool_calls"},
           {R"({"role":"assistant","tool_calls":[{}]})", "tool_calls[0].function"},
           {R"({"role":"assistant","tool_calls":[{"function":{}}]})",
            "tool_calls[0].function.name"},
           {R"({"role":"assistant","tool_calls":[{"type":"custom"}]})", "tool_calls[0].type"},
           {R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]})",
            "tool_calls[0].function.arguments"},
           {R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"[1]"}}]})",
            "tool_calls[0].function.arguments"},
           {R"({"role":"assistant","tool_calls":[{"function":{"name":"f","strict":true}}]})",
            "tool_calls[0].function.strict"},
           {R"({"role":"assistant","content":"x","reasoning":"a","reasoning_content":"b"})",
            "reasoning_content"},
           {R"({"role":"assistant","content":"x","function_call":{"name":"f"}})", "function_call"},
           {R"({"role":"assistant","content":"x","mood":"good"})", "mood"},
       }) {
    ApiRequest r;
    const auto error = ParseChat(fmt::format("[{}]", message), {}, r);
    ASSERT_TRUE(error) << message;
    EXPECT_EQ(error->param, fmt::format("messages[0].{}", param)) << message;
  }
}

TEST(ChatRequest, WhatIsWrongWithSettingsIsNamed) {
  for (const auto& [fields, param] : {
           std::pair{R"("chat_template_kwargs":[])", "chat_template_kwargs"},
           {R"("chat_template_kwargs":{"tools":[]})", "chat_template_kwargs.tools"},
           {R"("chat_template_kwargs":{"tokenize":true})", "chat_template_kwargs.tokenize"},
           {R"("documents":{})", "documents"},
           {R"("documents":["a"])", "documents[0]"},
           {R"("documents":[{"a":1}])", "documents[0].a"},
           {R"("reasoning_effort":"much")", "reasoning_effort"},
           {R"("continue_final_message":1)", "continue_final_message"},
       }) {
    ApiRequest r;
    const auto error = ParseChat(kOneUser, fmt::format(",{}", fields), r);
    ASSERT_TRUE(error) << fields;
    EXPECT_EQ(error->param, param) << fields;
  }
  EXPECT_THAT(Rendered(kOneUser, R"(,"reasoning_effort":"low")", "{{ messages }}"),
              HasSubstr("reasoning_effort: 'reasoning_effort' is not supported"));
}

constexpr char kTool[] = R"({"type":"function","function":{"name":"f"}})";

TEST(ChatRequest, ToolsAreRead) {
  ApiRequest r;
  const auto parse = [&](const std::string& fields) {
    const auto error = ParseChat(kOneUser, "," + fields, r);
    return error ? error->param : "";
  };
  EXPECT_EQ(parse(R"("tools":[{"type":"function","function":{"parameters":{"type":"object"},)"
                  R"("strict":false,"description":null,"name":"a-B_9"}}])"),
            "");
  ASSERT_EQ(r.tools.size(), 1u);
  EXPECT_EQ(r.tool_names.front(), "a-B_9");
  EXPECT_EQ(r.tools[0].json,
            R"({"type":"function","function":{"name":"a-B_9","parameters":{"type":"object"}}})");
  EXPECT_EQ(r.tools[0].parameters, R"({"type":"object"})");
  EXPECT_EQ(r.tool_choice, ToolChoice::kAuto);
  EXPECT_EQ(parse(fmt::format(R"("tools":[{}],"tool_choice":"none")", kTool)), "");
  EXPECT_EQ(r.tool_choice, ToolChoice::kNone);
  EXPECT_EQ(parse(R"("tools":[],"tool_choice":"none","parallel_tool_calls":true)"), "");
  EXPECT_EQ(r.tool_choice, ToolChoice::kNone);
  EXPECT_EQ(parse(R"("temperature":1)"), "");
  EXPECT_EQ(r.tool_choice, ToolChoice::kNone);
}

// Of a template that says nothing of tools.
TEST(ChatRequest, ToolsAreDescribedWhereTheTemplateTakesThem) {
  constexpr char kAny[] = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}";
  const std::string no_system = fmt::format(
      "{{% if messages[0].role == 'system' %}}{{{{ raise_exception('No system') }}}}"
      "{{% endif %}}{}",
      kAny);
  const std::string tools = fmt::format(R"(,"tools":[{}])", kTool);
  const std::string as_system = Rendered(kOneUser, tools, kAny);
  EXPECT_THAT(as_system, StartsWith("[system]You may call these functions:\n{"));
  EXPECT_THAT(as_system, EndsWith("[user]x"));
  const std::string as_user = Rendered(kOneUser, tools, no_system);
  EXPECT_THAT(as_user, StartsWith("[user]You may call these functions:\n{"));
  EXPECT_THAT(as_user, EndsWith("\n\nx"));
  EXPECT_EQ(Rendered(kOneUser, tools + R"(,"tool_choice":"none")", no_system), "[user]x");
  EXPECT_THAT(Rendered(R"([{"role":"system","content":"s"},{"role":"user","content":"x"}])", tools,
                       no_system),
              HasSubstr("No system"));
}

TEST(ChatRequest, WhatIsWrongWithToolsIsNamed) {
  const auto tool = [](std::string_view function) {
    return fmt::format(R"("tools":[{{"type":"function","function":{}}}])", function);
  };
  for (const auto& [fields, param] : std::initializer_list<std::pair<std::string, std::string>>{
           {R"("tools":{})", "tools"},
           {R"("tools":[1])", "tools[0]"},
           {R"("tools":[{}])", "tools[0].type"},
           {R"("tools":[{"type":"web_search"}])", "tools[0].type"},
           {R"("tools":[{"type":"function"}])", "tools[0].function"},
           {tool("[]"), "tools[0].function"},
           {tool("{}"), "tools[0].function.name"},
           {tool(R"({"name":"a b"})"), "tools[0].function.name"},
           {tool(R"({"name":""})"), "tools[0].function.name"},
           {tool(fmt::format(R"({{"name":"{}"}})", std::string(65, 'a'))),
            "tools[0].function.name"},
           {tool(R"({"name":"f","parameters":[]})"), "tools[0].function.parameters"},
           {tool(R"({"name":"f","parameters":{"type":"array"}})"),
            "tools[0].function.parameters.type"},
           {tool(R"({"name":"f","description":1})"), "tools[0].function.description"},
           {tool(R"({"name":"f","extra":1})"), "tools[0].function.extra"},
           {tool(R"({"name":"f","strict":1})"), "tools[0].function.strict"},
           {fmt::format(R"("tools":[{},{}])", kTool, kTool), "tools[1].function.name"},
           {R"("tool_choice":"auto")", "tool_choice"},
           {R"("tool_choice":"any")", "tool_choice"},
           {R"("tool_choice":7)", "tool_choice"},
           {R"("tool_choice":{"type":"function"})", "tool_choice.function"},
           {R"("tool_choice":{"function":{"name":"f"}})", "tool_choice.type"},
           {R"("tool_choice":{"type":"allowed_tools"})", "tool_choice.type"},
           {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice"},
           {R"("parallel_tool_calls":"no")", "parallel_tool_calls"},
       }) {
    ApiRequest r;
    const auto error = ParseChat(kOneUser, "," + fields, r);
    ASSERT_TRUE(error) << fields;
    EXPECT_EQ(error->param, param) << fields;
  }
}

}  // namespace
}  // namespace tandem::http
