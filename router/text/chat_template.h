// Renders a conversation into the prompt text the model was trained on, with the template that its
// files carry (Jinja: see jinja.h), as Hugging Face's apply_chat_template() does. A template that
// needs more than is supported is refused at start-up, by name and line.
//
// Contents of messages are inserted as they are: one that spells a control token will be read as
// that token when the prompt is encoded, as in Hugging Face's library.
//
// Thread: immutable, any thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "common/gguf/gguf_file.h"
#include "common/status.h"
#include "router/text/jinja.h"
#include "router/text/jinja_value.h"
#include "router/text/reply_syntax.h"

namespace tandem::text {

struct Message {
  std::string role;
  std::string content;
};

// What a request says of its conversation, as JSON has it (objects: maps that keep their order).
struct ChatInput {
  JinjaValue::List messages;  // maps
  // Lists of maps; undefined: the request has none, which the template sees as none.
  JinjaValue tools;
  JinjaValue documents;
  bool add_generation_prompt = false;
  // The prompt ends with the last message's content, for the model to go on with it.
  bool continue_final_message = false;
  JinjaValue::Map arguments;  // chat_template_kwargs: further variables
  int64_t unix_time = 0;      // what strftime_now shows, as local time; 0: the clock
};

class ChatTemplate {
 public:
  // bos_token, eos_token, ...: variables of the template.
  using SpecialTokens = std::map<std::string, std::string>;
  // The template, and others by name: "tool_use" is taken where a request has tools.
  using Sources = std::map<std::string, std::string>;  // by name; "default" is the template

  // kNotFound: the file carries no template (it is a base model). kUnimplemented: the template uses
  // what is not supported.
  static StatusOr<ChatTemplate> FromGguf(const gguf::File& file);
  // A Hugging Face folder: chat_template.jinja, else chat_template.json, else the entry of
  // tokenizer_config.json, which names the special tokens too. (chat_template_folder.cc)
  static StatusOr<ChatTemplate> FromFolder(const std::string& path);
  static StatusOr<ChatTemplate> Parse(const Sources& sources, SpecialTokens tokens);
  static StatusOr<ChatTemplate> Parse(std::string_view source, std::string bos, std::string eos);

  // kInvalidArgument: the template cannot take this, or refuses it.
  StatusOr<std::string> Render(const ChatInput& input) const;
  StatusOr<std::string> Render(std::span<const Message> messages, bool add_generation_prompt) const;

  const std::string& source() const { return source_; }  // of the default template
  // Whether the text of one of the templates has `word` in it: what it knows of, as far as can be
  // told without a conversation.
  bool Mentions(std::string_view word) const;
  const ReplySyntax& syntax() const { return syntax_; }

 private:
  ChatTemplate() = default;
  const JinjaTemplate& TemplateFor(const ChatInput& input) const;

  std::string source_;
  std::string other_sources_;
  ReplySyntax syntax_;
  SpecialTokens tokens_;
  JinjaTemplate template_;
  std::map<std::string, JinjaTemplate, std::less<>> others_;
};

}  // namespace tandem::text
