#include "bench/load/sharegpt_workload.h"

#include <algorithm>
#include <boost/json.hpp>
#include <string_view>

#include "bench/load/draws.h"
#include "bench/trace/text_file.h"

namespace tandem::load {
namespace {

namespace json = boost::json;

int64_t GuessTokens(std::string_view text) {
  return std::max<int64_t>(1, (static_cast<int64_t>(text.size()) + 3) / 4);
}

// The text of a message from `who`, or null.
const json::string* TextOf(const json::value& message, std::string_view who,
                           std::string_view also) {
  if (!message.is_object()) return nullptr;
  const json::value* from = message.get_object().if_contains("from");
  const json::value* value = message.get_object().if_contains("value");
  if (from == nullptr || !from->is_string() || value == nullptr || !value->is_string()) {
    return nullptr;
  }
  const std::string_view name(from->get_string().data(), from->get_string().size());
  return name == who || name == also ? &value->get_string() : nullptr;
}

Turn MakeTurn(const json::string& question, const json::string& answer, int64_t max_output) {
  const std::string quoted = json::serialize(question);
  Turn turn;
  turn.text = quoted.substr(1, quoted.size() - 2);
  turn.num_tokens = GuessTokens({question.data(), question.size()});
  turn.max_tokens = GuessTokens({answer.data(), answer.size()});
  if (max_output > 0) turn.max_tokens = std::min(turn.max_tokens, max_output);
  return turn;
}

Conversation MakeConversation(const json::array& messages, const WorkloadOptions& options) {
  Conversation conversation;
  for (size_t i = 0; i + 1 < messages.size(); i += 2) {
    if (static_cast<int64_t>(conversation.turns.size()) == options.turns) break;
    const json::string* question = TextOf(messages[i], "human", "user");
    const json::string* answer = TextOf(messages[i + 1], "gpt", "assistant");
    if (question == nullptr || answer == nullptr || question->empty()) break;
    Turn turn = MakeTurn(*question, *answer, options.max_output);
    if (options.max_input > 0 && turn.num_tokens > options.max_input) break;
    conversation.turns.push_back(std::move(turn));
  }
  return conversation;
}

}  // namespace

StatusOr<std::unique_ptr<ShareGptWorkload>> ShareGptWorkload::Read(const WorkloadOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const std::string text, trace::ReadText(options.file));
  boost::system::error_code error;
  const json::value root = json::parse(text, error);
  if (error || !root.is_array()) {
    return InvalidArgument("{}: not a JSON array of conversations", options.file);
  }
  auto workload = std::make_unique<ShareGptWorkload>();
  for (const json::value& entry : root.get_array()) {
    const json::value* messages =
        entry.is_object() ? entry.get_object().if_contains("conversations") : nullptr;
    if (messages == nullptr || !messages->is_array()) continue;
    Conversation conversation = MakeConversation(messages->get_array(), options);
    if (conversation.turns.empty()) continue;
    workload->conversations_.push_back(std::move(conversation));
  }
  if (workload->conversations_.empty()) {
    return InvalidArgument("{}: no conversation in it begins with a message and its reply",
                           options.file);
  }
  Draws order(options.seed, Purpose::kOrder, 0);
  for (auto i = static_cast<int64_t>(workload->conversations_.size()) - 1; i > 0; --i) {
    std::swap(workload->conversations_[static_cast<size_t>(i)],
              workload->conversations_[static_cast<size_t>(order.Between(0, i))]);
  }
  return workload;
}

}  // namespace tandem::load
