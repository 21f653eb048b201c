// Renders a conversation into the prompt text the model was trained on, with the template that the
// GGUF file carries (tokenizer.chat_template, Jinja). See jinja.h for the part of Jinja that is
// supported: a template that needs more is refused at start-up, by name.
//
// Contents of messages are inserted as they are: one that spells a control token will be read as
// that token when the prompt is encoded, as in Hugging Face's library.
//
// Thread: immutable, any thread.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/gguf/gguf_file.h"
#include "common/status.h"
#include "router/text/jinja.h"

namespace tandem::text {

struct Message {
  std::string role;
  std::string content;
};

class ChatTemplate {
 public:
  // kNotFound: the file carries no template (it is a base model). kUnimplemented: the template uses
  // what is not supported.
  static StatusOr<ChatTemplate> FromGguf(const gguf::File& file);
  // `bos` and `eos` are the variables bos_token and eos_token.
  static StatusOr<ChatTemplate> Parse(std::string_view source, std::string bos, std::string eos);

  // kInvalidArgument: the template cannot take these messages.
  StatusOr<std::string> Render(std::span<const Message> messages, bool add_generation_prompt) const;

  const std::string& source() const { return source_; }

 private:
  ChatTemplate() = default;

  std::string source_;
  std::string bos_;
  std::string eos_;
  JinjaTemplate template_;
};

}  // namespace tandem::text
