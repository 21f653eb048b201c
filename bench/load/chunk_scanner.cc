#include "bench/load/chunk_scanner.h"

#include <charconv>

namespace tandem::load {
namespace {

// Walks JSON text. Every method returns false where the text is not what it expects.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  char Peek() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
      ++at_;
    }
    return at_ < text_.size() ? text_[at_] : '\0';
  }

  bool Take(char c) {
    if (Peek() != c) return false;
    ++at_;
    return true;
  }

  bool AtEnd() { return Peek() == '\0' && at_ == text_.size(); }

  // The bytes between the quotes.
  bool String(std::string_view& out) {
    if (!Take('"')) return false;
    const size_t begin = at_;
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\\') {
        ++at_;
      } else if (text_[at_] == '"') {
        out = text_.substr(begin, at_++ - begin);
        return true;
      }
    }
    return false;
  }

  // Any value, as its raw text. Brackets are counted, not paired.
  bool Value(std::string_view& out) {
    const char first = Peek();
    const size_t begin = at_;
    int depth = 0;
    do {
      const char c = Peek();
      std::string_view skipped;
      if (c == '"') {
        if (!String(skipped)) return false;
      } else if (c == '{' || c == '[') {
        ++depth, ++at_;
      } else if (c == '}' || c == ']') {
        --depth, ++at_;
      } else if (c == ',' || c == ':') {
        ++at_;
      } else if (!Word()) {
        return false;
      }
    } while (depth > 0);
    out = text_.substr(begin, at_ - begin);
    return depth == 0 && first != ',' && first != ':';
  }

  // member(key) takes the value.
  template <class F>
  bool Object(F&& member) {
    if (!Take('{')) return false;
    if (Take('}')) return true;
    do {
      std::string_view key;
      if (!String(key) || !Take(':') || !member(key)) return false;
    } while (Take(','));
    return Take('}');
  }

 private:
  // A number, true, false or null.
  bool Word() {
    const size_t begin = at_;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      const bool part = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' ||
                        c == '.' || c == 'E';
      if (!part) break;
      ++at_;
    }
    return at_ > begin;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// A string member that may be null.
bool ReadText(Cursor& in, std::string_view& out) {
  std::string_view ignored;
  if (in.Peek() != '"') return in.Value(ignored);
  std::string_view text;
  if (!in.String(text)) return false;
  if (!text.empty()) out = text;  // an empty content beside a reasoning_content
  return true;
}

bool ReadDelta(Cursor& in, Chunk& chunk) {
  std::string_view ignored;
  if (in.Peek() != '{') return in.Value(ignored);
  return in.Object([&](std::string_view key) {
    if (key == "content" || key == "reasoning_content") return ReadText(in, chunk.text);
    return in.Value(ignored);
  });
}

bool ReadChoices(Cursor& in, Chunk& chunk) {
  std::string_view ignored;
  if (in.Peek() != '[') return in.Value(ignored);
  in.Take('[');
  if (in.Take(']')) return true;
  chunk.has_choices = true;
  const bool first = in.Object([&](std::string_view key) {
    if (key == "delta" || key == "message") return ReadDelta(in, chunk);
    if (key == "text") return ReadText(in, chunk.text);
    return in.Value(ignored);
  });
  if (!first) return false;
  while (in.Take(',')) {
    if (!in.Value(ignored)) return false;
  }
  return in.Take(']');
}

bool ReadCount(Cursor& in, int64_t& out) {
  std::string_view raw;
  if (!in.Value(raw)) return false;
  int64_t count = 0;
  const auto [end, error] = std::from_chars(raw.data(), raw.data() + raw.size(), count);
  if (error == std::errc() && end == raw.data() + raw.size() && count >= 0) out = count;
  return true;
}

bool ReadUsage(Cursor& in, Chunk& chunk) {
  std::string_view ignored;
  if (in.Peek() != '{') return in.Value(ignored);  // null, in every chunk but the last
  return in.Object([&](std::string_view key) {
    if (key == "prompt_tokens") return ReadCount(in, chunk.prompt_tokens);
    if (key == "completion_tokens") return ReadCount(in, chunk.completion_tokens);
    if (key != "prompt_tokens_details" || in.Peek() != '{') return in.Value(ignored);
    return in.Object([&](std::string_view detail) {
      if (detail == "cached_tokens") return ReadCount(in, chunk.cached_tokens);
      return in.Value(ignored);
    });
  });
}

}  // namespace

bool ScanChunk(std::string_view data, Chunk& chunk) {
  Cursor in(data);
  std::string_view raw;
  const bool whole = in.Object([&](std::string_view key) {
    if (key == "choices") return ReadChoices(in, chunk);
    if (key == "usage") return ReadUsage(in, chunk);
    if (!in.Value(raw)) return false;
    if (key == "error" && raw != "null") chunk.error = raw;
    return true;
  });
  return whole && in.AtEnd();
}

}  // namespace tandem::load
