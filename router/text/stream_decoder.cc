#include "router/text/stream_decoder.h"

#include <algorithm>

namespace tandem::text {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, const Options& options)
    : tokenizer_(tokenizer),
      include_stop_(options.include_stop),
      with_special_(options.with_special),
      shown_(options.shown),
      unstoppable_(options.min_tokens),
      strip_(options.continues ? 0 : tokenizer.decode_strip()) {
  for (const std::string& text : options.stop) {
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

StreamDecoder::Output StreamDecoder::Push(std::span<const TokenId> tokens, bool silent_end) {
  DropSent();
  Output output;
  for (size_t i = 0; i < tokens.size() && !stopped_; ++i) {
    ++output.num_tokens;
    const bool stops = unstoppable_ == 0;
    if (!stops) --unstoppable_;
    if (silent_end && i + 1 == tokens.size()) break;
    if (!HasText(tokens[i])) continue;
    const size_t old_size = text_.size();
    utf8_.Push(Stripped(tokenizer_.TokenText(tokens[i])), text_);
    if (stops) Scan(old_size);
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

bool StreamDecoder::HasText(TokenId token) const {
  if (with_special_ || !tokenizer_.IsControl(token)) return true;
  return std::find(shown_.begin(), shown_.end(), token) != shown_.end();
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
    for (Stop& stop : stops_) {
      Advance(stop, text_[at]);
      const bool complete = stop.matched == stop.text.size();
      if (complete && stop.matched > stopped_by_.size()) stopped_by_ = stop.text;
    }
    if (stopped_by_.empty()) continue;
    text_.resize(at + 1 - (include_stop_ ? 0 : stopped_by_.size()));
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
