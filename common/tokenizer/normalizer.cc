#include "common/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "common/tokenizer/code_set.h"
#include "common/tokenizer/replace.h"
#include "common/tokenizer/utf8.h"

namespace tandem::text {
namespace {

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

int OptionsOf(Normalizer::Form form) {
  switch (form) {
    case Normalizer::Form::kNfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case Normalizer::Form::kNfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case Normalizer::Form::kNfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case Normalizer::Form::kNfkd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  return 0;
}

bool AppendMapped(std::string_view text, int options, std::string& out) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, Free> owner(mapped);
  if (size < 0) return false;
  out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  return true;
}

// What a character means to a form. Most of most texts is inert: ASCII and the ideographs of
// Chinese, which no form changes and which join nothing before them, but may join a mark behind.
enum class Role { kInert, kAlone, kActive };

Role RoleOf(uint32_t code) {
  static const CodeSet late = CodeSet::LateMarks();
  if (code < 0x80 || (code >= 0x4e00 && code <= 0x9fff)) return Role::kInert;
  return late.Contains(code) ? Role::kAlone : Role::kActive;
}

// Finds the parts of a text that need work and has utf8proc do it.
class FormChange {
 public:
  FormChange(std::string_view text, int options) : text_(text), options_(options) {}

  // nullopt: the text is not UTF-8.
  std::optional<std::string> Apply() {
    out_.reserve(text_.size());
    for (size_t at = 0; at < text_.size();) {
      const CodePoint point = ReadCodePoint(text_, at);
      const Role role = RoleOf(point.value);
      if (role == Role::kActive) {
        Begin();
      } else {
        if (!Finish(at)) return std::nullopt;
        before_ = role == Role::kInert ? at : at + point.size;
      }
      at += point.size;
    }
    if (!Finish(text_.size())) return std::nullopt;
    return std::move(out_.append(text_.substr(done_)));
  }

 private:
  void Begin() {
    if (working_) return;
    working_ = true;
    begin_ = std::max(before_, done_);
    out_.append(text_.substr(done_, begin_ - done_));
    done_ = begin_;
  }
  bool Finish(size_t end) {
    if (!working_) return true;
    working_ = false;
    done_ = end;
    return AppendMapped(text_.substr(begin_, end - begin_), options_, out_);
  }

  std::string_view text_;
  int options_;
  std::string out_;
  size_t done_ = 0;    // text before it is in out_
  size_t before_ = 0;  // where work that begins now begins: at what is inert just before
  size_t begin_ = 0;
  bool working_ = false;
};

// Rust's char::to_lowercase: one character becomes two.
constexpr uint32_t kCapitalIWithDot = 0x130;

// Capitals of Unicode 16 and 17, which utf8proc does not know.
struct Capitals {
  uint32_t first, last, lower;  // `lower`: what becomes of the first
};
constexpr Capitals kLateCapitals[] = {
    {0x1c89, 0x1c89, 0x1c8a},    {0xa7cb, 0xa7cb, 0x264},  {0xa7cc, 0xa7cc, 0xa7cd},
    {0xa7ce, 0xa7ce, 0xa7cf},    {0xa7d2, 0xa7d2, 0xa7d3}, {0xa7d4, 0xa7d4, 0xa7d5},
    {0xa7da, 0xa7da, 0xa7db},    {0xa7dc, 0xa7dc, 0x19b},  {0x10d50, 0x10d65, 0x10d70},
    {0x16ea0, 0x16eb8, 0x16ebb},
};

utf8proc_int32_t Lower(uint32_t code) {
  for (const Capitals& late : kLateCapitals) {
    if (code >= late.first && code <= late.last) {
      return static_cast<utf8proc_int32_t>(code - late.first + late.lower);
    }
  }
  return utf8proc_tolower(static_cast<utf8proc_int32_t>(code));
}

std::string Lowered(std::string_view text) {
  if (!IsValidUtf8(text)) return std::string(text);
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    at += point.size;
    if (point.value == kCapitalIWithDot) {
      out += "i\u0307";
      continue;
    }
    utf8proc_uint8_t bytes[4];
    const utf8proc_ssize_t size = utf8proc_encode_char(Lower(point.value), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  }
  return out;
}

std::string MatchesReplaced(std::string_view text, const Regex& what, std::string_view with) {
  Regex::Text search;
  what.Begin(text, search);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Regex::Match match = what.Find(search, at);
    out.append(text.substr(at, match.begin - at));
    if (match.end > match.begin) out.append(with);
    at = match.end;
  }
  return out;
}

std::string_view Stripped(std::string_view text, bool left, bool right) {
  static const CodeSet spaces = CodeSet::Space();
  size_t begin = 0;
  while (left && begin < text.size()) {
    const CodePoint point = ReadCodePoint(text, begin);
    if (!spaces.Contains(point.value)) break;
    begin += point.size;
  }
  size_t end = begin;  // of what is not space
  for (size_t at = begin; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    at += point.size;
    if (!right || !spaces.Contains(point.value)) end = at;
  }
  return text.substr(begin, end - begin);
}

}  // namespace

void Normalizer::AddForm(Form form) { steps_.emplace_back(form); }

void Normalizer::AddLowercase() { steps_.emplace_back(Lowercase{}); }

void Normalizer::AddPrepend(std::string what) { steps_.emplace_back(Prepend{std::move(what)}); }

void Normalizer::AddReplace(std::string what, std::string with) {
  steps_.emplace_back(Replace{std::move(what), std::move(with)});
}

void Normalizer::AddReplace(Regex what, std::string with) {
  steps_.emplace_back(ReplaceMatches{std::move(what), std::move(with)});
}

void Normalizer::AddStrip(bool left, bool right) { steps_.emplace_back(Strip{left, right}); }

std::string Normalizer::Apply(std::string_view text) const {
  std::string now(text);
  for (const Step& step : steps_) {
    if (const auto* form = std::get_if<Form>(&step)) {
      if (auto changed = FormChange(now, OptionsOf(*form)).Apply()) now = *std::move(changed);
    } else if (std::holds_alternative<Lowercase>(step)) {
      now = Lowered(now);
    } else if (const auto* prepend = std::get_if<Prepend>(&step)) {
      if (!now.empty()) now.insert(0, prepend->what);
    } else if (const auto* replace = std::get_if<Replace>(&step)) {
      std::string out;
      out.reserve(now.size() + now.size() / 2);
      AppendReplaced(now, replace->what, replace->with, out);
      now = std::move(out);
    } else if (const auto* matches = std::get_if<ReplaceMatches>(&step)) {
      now = MatchesReplaced(now, matches->what, matches->with);
    } else if (const auto* strip = std::get_if<Strip>(&step)) {
      now = Stripped(now, strip->left, strip->right);
    }
  }
  return now;
}

}  // namespace tandem::text
