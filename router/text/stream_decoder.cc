#include "router/text/stream_decoder.h"

#include <algorithm>

namespace tandem::text {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::span<const std::string> stop,
                             bool continues)
    : tokenizer_(tokenizer), strip_(continues ? 0 : tokenizer.decode_strip()) {
  for (const std::string& text : stop) {
    if (!text.empty()) stops_.push_back(MakeStop(text));
  }
}

StreamDecoder::Stop StreamDecoder::MakeStop(std::string_view text) {
  Stop stop = {text, std::vector<size_t>(text.size(), 0), 0};
  size_t border = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    while (border > 0 && text[i] != text[border]) border = stop.fallback[border - 1];
    if (text[i] == text[border]) ++border;
    stop.fallback[i] = border;
  }
  return stop;
}

void StreamDecoder::Advance(Stop& stop, char byte) {
  while (stop.matched > 0 && stop.text[stop.matched] != byte) {
    stop.matched = stop.fallback[stop.matched - 1];
  }
  if (stop.text[stop.matched] == byte) ++stop.matched;
}

StreamDecoder::Output StreamDecoder::Push(std::span<const TokenId> tokens) {
  DropSent();
  Output output;
  for (const TokenId token : tokens) {
    if (stopped_) break;
    ++output.num_tokens;
    if (tokenizer_.IsControl(token)) continue;
    const size_t old_size = text_.size();
    utf8_.Push(Stripped(tokenizer_.TokenText(token)), text_);
    Scan(old_size);
  }
  output.stopped = stopped_;
  output.text = TakeSafe();
  return output;
}

std::string_view StreamDecoder::Flush() {
  DropSent();
  if (stopped_) return {};
  const size_t old_size = text_.size();
  utf8_.Finish(text_);
  Scan(old_size);
  stopped_ = true;
  sent_ = text_.size();
  return text_;
}

// `text` without what Decode takes off the beginning, where that is still to be done.
std::string_view StreamDecoder::Stripped(std::string_view text) {
  while (strip_ > 0 && !text.empty()) {
    strip_ = text[0] == ' ' ? strip_ - 1 : 0;
    if (text[0] != ' ') break;
    text.remove_prefix(1);
  }
  return text;
}

void StreamDecoder::DropSent() {
  text_.erase(0, sent_);
  sent_ = 0;
}

// Follows the text from byte `from` on in every stop string. At the first that is complete the text
// is cut before it and the stream has stopped.
void StreamDecoder::Scan(size_t from) {
  for (size_t at = from; at < text_.size() && !stops_.empty(); ++at) {
    size_t longest = 0;
    for (Stop& stop : stops_) {
      Advance(stop, text_[at]);
      if (stop.matched == stop.text.size()) longest = std::max(longest, stop.matched);
    }
    if (longest == 0) continue;
    text_.resize(at + 1 - longest);
    stopped_ = true;
    return;
  }
}

// All but what may be the beginning of a stop string.
std::string_view StreamDecoder::TakeSafe() {
  size_t held = 0;
  if (!stopped_) {
    for (const Stop& stop : stops_) held = std::max(held, stop.matched);
  }
  sent_ = text_.size() - held;
  return std::string_view(text_).substr(0, sent_);
}

}  // namespace tandem::text
