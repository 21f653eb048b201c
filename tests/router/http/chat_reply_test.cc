// Replies that are more than text: calls of tools and reasoning, whole and streamed, over real
// sockets. Fake groups write them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

#include "tests/router/http/fixture.h"

namespace tandem::http {
namespace {

using routing::FinishReason;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
namespace json = boost::json;

constexpr std::string_view kTools =
    R"(,"tools":[{"type":"function","function":{"description":"d","name":"add",)"
    R"("parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}},)"
    R"({"type":"function","function":{"name":"f"}}])";

// What a template shows of tools, and how a model's calls look.
constexpr std::string_view kShowsTools =
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}";
constexpr std::string_view kHermes = "{# <tool_call> name arguments #}";
constexpr std::string_view kMistral = "{# [TOOL_CALLS] #}";
constexpr std::string_view kThinks = "{# </think> #}";
constexpr std::string_view kMessages =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}";

class ChatReplyTest : public ServerTest {
 protected:
  void StartWith(std::string_view a, std::string_view b = {}, std::string_view c = {}) {
    auto chat = text::ChatTemplate::Parse(fmt::format("{}{}{}{}", kMessages, a, b, c), "", "");
    ASSERT_TRUE(chat.ok()) << chat.status();
    chat_ = std::make_unique<text::ChatTemplate>(*std::move(chat));
    service_options_.models.push_back({"tiny", "fp", tokenizer_.get(), chat_.get()});
    Start();
    groups_->Up("g0", 4096);
  }

  // The reply where the model writes `text`, byte by byte, and ends its turn.
  json::value Reply(std::string_view more, std::string_view text,
                    FinishReason finish = FinishReason::kStop) {
    RawClient client(port());
    client.Send(ChatPost("Hi", more));
    Write(text, finish);
    const RawResponse response = client.Read();
    EXPECT_EQ(response.status, 200) << response.body;
    return json::parse(response.body);
  }
  // The same as a stream, put together as clients do.
  json::value Streamed(std::string_view more, std::string_view text,
                       FinishReason finish = FinishReason::kStop) {
    RawClient client(port());
    client.Send(ChatPost("Hi", fmt::format(R"({},"stream":true)", more)));
    Write(text, finish);
    const std::string events = client.ReadUntil("data: [DONE]\n\n");
    json::object message = {{"role", "assistant"}};
    json::value reason;
    json::array calls;
    const auto add = [](json::object& to, const char* name, const json::value& piece) {
      json::value& all = to[name];
      all = std::string(all.is_string() ? all.as_string() : "") + std::string(piece.as_string());
    };
    for (size_t at = 0; (at = events.find("data: {", at)) != events.npos;) {
      at += 6;
      const json::value chunk = json::parse(events.substr(at, events.find("\n\n", at) - at));
      const json::object& choice = chunk.at_pointer("/choices/0").as_object();
      for (const auto& [name, piece] : choice.at("delta").as_object()) {
        if (name == "tool_calls") {
          const json::object& delta = piece.as_array().at(0).as_object();
          const auto index = static_cast<size_t>(delta.at("index").as_int64());
          const json::object& function = delta.at("function").as_object();
          if (index == calls.size()) {
            json::object call = delta;
            call.erase("index");
            calls.push_back(call);
          } else {
            EXPECT_EQ(index + 1, calls.size());
            EXPECT_FALSE(delta.contains("id"));
            add(calls[index].at("function").as_object(), "arguments", function.at("arguments"));
          }
        } else if (name != "role") {
          add(message, name.data(), piece);
        }
      }
      if (!choice.at("finish_reason").is_null()) reason = choice.at("finish_reason");
    }
    if (!calls.empty()) message["tool_calls"] = calls;
    return {{"message", message}, {"finish_reason", reason}};
  }

  static json::value Plain(json::value message) {
    json::object& object = message.as_object();
    object.erase("role");
    object.erase("refusal");
    if (object.contains("content") && (object["content"].is_null() || object["content"] == "")) {
      object.erase("content");
    }
    if (object.contains("tool_calls")) {
      for (json::value& call : object["tool_calls"].as_array()) call.as_object().erase("id");
    }
    return message;
  }

  std::string prompt_;  // of the last request

 private:
  void Write(std::string_view text, FinishReason finish) {
    const FakeGroups::Sent sent = groups_->WaitSent();
    prompt_ = tokenizer_->Decode(sent.request.prompt);
    const std::vector<TokenId> tokens = Tokens(text);
    for (size_t i = 0; i < tokens.size(); ++i) {
      groups_->Answer(sent, {tokens[i]}, static_cast<int>(i));
    }
    groups_->Answer(sent, {end_id()}, static_cast<int>(tokens.size()), finish);
  }

  std::unique_ptr<text::ChatTemplate> chat_;
};

constexpr char kTwoCalls[] =
    "Well.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>\n"
    "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";
constexpr char kTwoCallsRead[] =
    R"({"content":"Well.","tool_calls":[)"
    R"({"type":"function","function":{"name":"add","arguments":"{\"a\": 1}"}},)"
    R"({"type":"function","function":{"name":"f","arguments":"{}"}}]})";

TEST_F(ChatReplyTest, CallsAreReadWholeAndStreamed) {
  StartWith(kShowsTools, kHermes);
  const json::value whole = Reply(kTools, kTwoCalls);
  const json::value& choice = whole.at_pointer("/choices/0");
  EXPECT_EQ(choice.at("finish_reason"), "tool_calls");
  EXPECT_EQ(Plain(choice.at("message")), json::parse(kTwoCallsRead));
  EXPECT_THAT(prompt_, HasSubstr(R"({"type": "function", "function": {"name": "add", )"
                                 R"("description": "d", "parameters": {"type")"));
  const json::value streamed = Streamed(kTools, kTwoCalls);
  EXPECT_EQ(streamed.at("finish_reason"), "tool_calls");
  EXPECT_EQ(Plain(streamed.at("message")), json::parse(kTwoCallsRead));
  std::set<std::string> ids;
  for (const json::value* message : {&choice.at("message"), &streamed.at("message")}) {
    for (const json::value& call : message->at("tool_calls").as_array()) {
      ids.emplace(call.at("id").as_string());
    }
  }
  EXPECT_EQ(ids.size(), 4u);
  EXPECT_THAT(*ids.begin(), MatchesRegex("call_[0-9a-f]{24}"));
}

TEST_F(ChatReplyTest, CallsAreContentWhereTheyWereNotAskedFor) {
  StartWith(kShowsTools, kHermes);
  const json::value none = Reply(fmt::format(R"({},"tool_choice":"none")", kTools), kTwoCalls);
  EXPECT_EQ(none.at_pointer("/choices/0/message/content"), kTwoCalls);
  EXPECT_EQ(none.at_pointer("/choices/0/finish_reason"), "stop");
  EXPECT_THAT(prompt_, HasSubstr("\"description\": \"d\""));  // the template has them all the same
  EXPECT_EQ(Reply("", kTwoCalls).at_pointer("/choices/0/message/content"), kTwoCalls);
  const json::value one =
      Reply(fmt::format(R"({},"parallel_tool_calls":false)", kTools), kTwoCalls);
  EXPECT_EQ(one.at_pointer("/choices/0/message/tool_calls").as_array().size(), 1u);
}

TEST_F(ChatReplyTest, ACallThatIsCutOffEndsByLength) {
  StartWith(kShowsTools, kHermes);
  const std::string_view all = kTwoCalls, cut = all.substr(0, all.find("1}"));
  for (const json::value& choice :
       {Reply(kTools, cut, FinishReason::kLength).at_pointer("/choices/0"),
        Streamed(kTools, cut, FinishReason::kLength)}) {
    EXPECT_EQ(choice.at("finish_reason"), "length");
    EXPECT_EQ(choice.at_pointer("/message/tool_calls/0/function/arguments"), "{\"a\": ");
  }
  constexpr char kHead[] = "<tool_call>{\"na";
  EXPECT_EQ(Streamed(kTools, kHead).at_pointer("/message/content"), kHead);
}

TEST_F(ChatReplyTest, MistralsIdsHaveNineCharacters) {
  StartWith(kShowsTools, kMistral);
  const json::value reply = Reply(kTools, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]");
  EXPECT_THAT(std::string(reply.at_pointer("/choices/0/message/tool_calls/0/id").as_string()),
              MatchesRegex("[A-Za-z0-9]{9}"));
  EXPECT_TRUE(reply.at_pointer("/choices/0/message/content").is_null());
}

TEST_F(ChatReplyTest, ATemplateWithoutToolsHasThemInWords) {
  StartWith("");
  constexpr char kCall[] = R"([{"name": "f", "arguments": {"x": "y"}}])";
  const json::value reply = Reply(kTools, kCall);
  EXPECT_EQ(Plain(reply.at_pointer("/choices/0/message")),
            json::parse(R"({"tool_calls":[{"type":"function","function":)"
                        R"({"name":"f","arguments":"{\"x\": \"y\"}"}}]})"));
  EXPECT_THAT(prompt_, HasSubstr("[system]You may call these functions:\n"
                                 R"({"type":"function","function":{"name":"add","description":)"));
  EXPECT_THAT(prompt_, HasSubstr("[user]Hi"));
  constexpr char kOther[] = R"({"name": "Ann", "arguments": {}})";
  EXPECT_EQ(Streamed(kTools, kOther).at_pointer("/message/content"), kOther);
  Reply(fmt::format(R"({},"tool_choice":"none")", kTools), "x");
  EXPECT_THAT(prompt_, Not(HasSubstr("You may call")));
}

TEST_F(ChatReplyTest, ATemplateWithAnotherFormatTakesNoTools) {
  StartWith(kShowsTools, "{# <function= #}");
  RawClient client(port());
  client.Send(ChatPost("Hi", kTools));
  const RawResponse response = client.Read();
  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(response.body, HasSubstr("\"param\":\"tools\""));
  const json::value none = Reply(fmt::format(R"({},"tool_choice":"none")", kTools), "x");
  EXPECT_EQ(none.at_pointer("/choices/0/message/content"), "x");
}

TEST_F(ChatReplyTest, ReasoningStandsApart) {
  StartWith(kThinks, kShowsTools, kHermes);
  constexpr char kThought[] = "<think>Hm.</think>So.";
  constexpr char kRead[] = R"({"content":"So.","reasoning_content":"Hm."})";
  EXPECT_EQ(Plain(Reply("", kThought).at_pointer("/choices/0/message")), json::parse(kRead));
  const json::value streamed = Streamed("", kThought);
  EXPECT_EQ(streamed.at_pointer("/message/content"), "So.");
  EXPECT_EQ(streamed.at_pointer("/message/reasoning_content"), "Hm.");
  for (const json::value& message :
       {Reply(R"(,"include_reasoning":false)", kThought).at_pointer("/choices/0/message"),
        Streamed(R"(,"include_reasoning":false)", kThought).at("message")}) {
    EXPECT_EQ(Plain(message), json::parse(R"({"content":"So."})"));
  }
  const json::value call = Reply(
      kTools, "<think>Hm.</think>\n\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>");
  EXPECT_TRUE(call.at_pointer("/choices/0/message/content").is_null());
  EXPECT_EQ(call.at_pointer("/choices/0/message/reasoning_content"), "Hm.");
  EXPECT_EQ(call.at_pointer("/choices/0/finish_reason"), "tool_calls");
  // The last message's thought goes on.
  const std::string body =
      R"({"model":"tiny","messages":[{"role":"user","content":"q"},{"role":"assistant",)"
      R"("content":"<think>I"}],"add_generation_prompt":false,"continue_final_message":true})";
  RawClient client(port());
  client.Send(RawClient::Post("/v1/chat/completions", body));
  groups_->Answer(groups_->WaitSent(), Tokens(" am.</think> So."), 0, FinishReason::kLength);
  EXPECT_EQ(Plain(json::parse(client.Read().body).at_pointer("/choices/0/message")),
            json::parse(R"({"content":" So.","reasoning_content":" am."})"));
}

// Those before the token that ends the thought.
TEST_F(ChatReplyTest, TokensOfReasoningAreCounted) {
  StartWith(kThinks);
  constexpr char kPath[] = "/usage/completion_tokens_details/reasoning_tokens";
  constexpr std::string_view kThought = "<think>Hm.</think>So.";
  const size_t reasoning = Tokens("<think>Hm.</think>").size() - 1;
  const size_t all = Tokens(kThought).size() + 1;  // and the end
  ASSERT_EQ(reasoning + 1 + Tokens("So.").size() + 1, all);
  const json::value whole = Reply("", kThought);
  EXPECT_EQ(whole.at_pointer(kPath), reasoning);
  EXPECT_EQ(whole.at_pointer("/usage/completion_tokens"), all);
  EXPECT_EQ(Reply("", "<think>Hm.", FinishReason::kLength).at_pointer(kPath),
            Tokens("<think>Hm.").size() + 1);
  EXPECT_EQ(Reply("", "So. <think>").at_pointer(kPath), 0);
  for (const bool stream : {false, true}) {
    RawClient client(port());
    client.Send(RawClient::Post(
        "/v1/responses", fmt::format(R"({{"model":"tiny","input":"Hi","stream":{}}})", stream)));
    const FakeGroups::Sent sent = groups_->WaitSent();
    const std::vector<TokenId> tokens = Tokens(kThought);
    for (size_t i = 0; i < tokens.size(); ++i) {
      groups_->Answer(sent, {tokens[i]}, static_cast<int>(i));
    }
    groups_->Answer(sent, {end_id()}, static_cast<int>(tokens.size()), FinishReason::kStop);
    EXPECT_THAT(stream ? client.ReadUntil("\r\n0\r\n\r\n") : client.Read().body,
                HasSubstr(fmt::format(
                    R"("output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}})", all,
                    reasoning)));
  }
  RawClient client(port());
  client.Send(ChatPost("Hi", R"(,"stream":true,"stream_options":{"include_usage":true})"));
  groups_->Answer(groups_->WaitSent(), Tokens("So"), 0, FinishReason::kLength);
  EXPECT_THAT(client.ReadUntil("data: [DONE]\n\n"),
              HasSubstr(R"("completion_tokens_details":{"reasoning_tokens":0}})"));
}

TEST_F(ChatReplyTest, APromptMayBeginTheReasoning) {
  StartWith("{% if add_generation_prompt and enable_thinking %}<think>\n{% endif %}", kThinks);
  constexpr std::string_view kOn = R"(,"chat_template_kwargs":{"enable_thinking":true})";
  EXPECT_EQ(Plain(Reply(kOn, "Hm.</think>So.").at_pointer("/choices/0/message")),
            json::parse(R"({"content":"So.","reasoning_content":"Hm."})"));
  EXPECT_THAT(prompt_, HasSubstr("[assistant]<think>\n"));
  EXPECT_EQ(Plain(Reply("", "Hm.</think>So.").at_pointer("/choices/0/message")),
            json::parse(R"({"content":"Hm.</think>So."})"));
  // White space that may stand before the mark is of the thought if no more comes.
  const json::value cut = Reply(kOn, "\n", FinishReason::kLength);
  EXPECT_EQ(cut.at_pointer("/choices/0/message/reasoning_content"), "\n");
  EXPECT_EQ(cut.at_pointer("/usage/completion_tokens_details/reasoning_tokens"),
            cut.at_pointer("/usage/completion_tokens"));
}

TEST_F(ChatReplyTest, TokensComeWithTheirPieces) {
  StartWith(kShowsTools, kHermes);
  RawClient client(port());
  client.Send(ChatPost("Hi", fmt::format(R"({},"stream":true,"return_token_ids":true,)"
                                         R"("stream_options":{{"include_usage":true,)"
                                         R"("continuous_usage_stats":true}})",
                                         kTools)));
  const FakeGroups::Sent sent = groups_->WaitSent();
  const std::vector<TokenId> tokens = Tokens("<tool_call>{\"name\":\"f\",\"arguments\":{}}");
  groups_->Answer(sent, tokens, 0);
  groups_->Answer(sent, {end_id()}, static_cast<int>(tokens.size()), FinishReason::kStop);
  const std::string events = client.ReadUntil("data: [DONE]\n\n");
  std::vector<TokenId> seen;
  for (size_t at = 0; (at = events.find("data: {", at)) != events.npos;) {
    at += 6;
    const json::value chunk = json::parse(events.substr(at, events.find("\n\n", at) - at));
    const json::array& choices = chunk.at("choices").as_array();
    if (choices.empty() || !choices[0].as_object().contains("token_ids")) continue;
    for (const json::value& id : choices[0].at("token_ids").as_array()) {
      seen.push_back(static_cast<TokenId>(id.as_int64()));
    }
    EXPECT_GT(chunk.at_pointer("/usage/completion_tokens").as_int64(), 0);
  }
  std::vector<TokenId> all = tokens;
  all.push_back(end_id());
  EXPECT_EQ(seen, all);
}

TEST_F(ChatReplyTest, ResponsesHaveAnItemOfEach) {
  StartWith(kThinks, kShowsTools, kHermes);
  constexpr std::string_view kText =
      "<think>Hm.</think>So:\n<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":1}}</tool_call>";
  const auto answer = [&](RawClient& client, bool stream) {
    client.Send(RawClient::Post(
        "/v1/responses",
        fmt::format(
            R"({{"model":"tiny","input":"Hi","tools":[{{"type":"function","name":"f"}}],"stream":{}}})",
            stream)));
    const FakeGroups::Sent sent = groups_->WaitSent();
    const std::vector<TokenId> tokens = Tokens(kText);
    for (size_t i = 0; i < tokens.size(); ++i) {
      groups_->Answer(sent, {tokens[i]}, static_cast<int>(i));
    }
    groups_->Answer(sent, {end_id()}, static_cast<int>(tokens.size()), FinishReason::kStop);
  };
  RawClient client(port());
  answer(client, false);
  const json::value whole = json::parse(client.Read().body);
  const json::array& output = whole.at("output").as_array();
  ASSERT_EQ(output.size(), 3u);
  EXPECT_EQ(output[0].at("type"), "reasoning");
  EXPECT_EQ(output[0].at_pointer("/content/0/text"), "Hm.");
  EXPECT_EQ(output[1].at_pointer("/content/0/text"), "So:");
  EXPECT_EQ(output[2].at("type"), "function_call");
  EXPECT_EQ(output[2].at("name"), "f");
  EXPECT_EQ(output[2].at("arguments"), R"({"a":1})");
  EXPECT_THAT(std::string(output[2].at("call_id").as_string()), MatchesRegex("call_[0-9a-f]{24}"));
  EXPECT_EQ(whole.at_pointer("/tools/0/name"), "f");

  answer(client, true);
  const std::string events = client.ReadUntil("\r\n0\r\n\r\n");
  size_t at = 0;
  for (const char* event :
       {"event: response.in_progress\n", "event: response.output_item.added\n",
        R"("type":"reasoning")", "event: response.reasoning_text.delta\n",
        "event: response.reasoning_text.done\n", R"("text":"Hm.")",
        "event: response.output_item.done\n", "event: response.output_item.added\n",
        R"("output_index":1)", "event: response.output_text.delta\n",
        "event: response.output_text.done\n", "event: response.output_item.done\n",
        R"("type":"function_call")", "event: response.function_call_arguments.delta\n",
        "event: response.function_call_arguments.done\n", R"("arguments":"{\"a\":1}")",
        "event: response.output_item.done\n", "event: response.completed\n"}) {
    at = events.find(event, at);
    ASSERT_NE(at, std::string::npos) << event << " in " << events;
  }
}

}  // namespace
}  // namespace tandem::http
