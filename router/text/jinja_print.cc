#include "router/text/jinja_print.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string_view>
#include <vector>

#include "common/tokenizer/utf8.h"
#include "router/text/jinja_objects.h"
#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;

// Unicode's categories Z and C but for unassigned characters, which change with its versions.
bool IsPrintable(uint32_t c) {
  if (c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0xad) return false;
  if (c == 0x1680 || (c >= 0x2000 && c <= 0x200f) || (c >= 0x2028 && c <= 0x202f)) return false;
  if ((c >= 0x205f && c <= 0x206f) || c == 0x3000 || c == 0xfeff) return false;
  return !(c >= 0xd800 && c <= 0xf8ff) && !(c >= 0xfff9 && c <= 0xfffb) && c < 0xe0000;
}

void ReprCharacter(uint32_t c, std::string& out) {
  if (c == '\n' || c == '\r' || c == '\t') {
    out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
  } else if (c < 0x100) {
    fmt::format_to(std::back_inserter(out), "\\x{:02x}", c);
  } else if (c < 0x10000) {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", c);
  } else {
    fmt::format_to(std::back_inserter(out), "\\U{:08x}", c);
  }
}

void ReprText(std::string_view text, std::string& out) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out.push_back(quote);
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    if (point.value == static_cast<uint32_t>(quote) || point.value == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(point.value));
    } else if (IsPrintable(point.value)) {
      out += text.substr(at, point.size);
    } else {
      ReprCharacter(point.value, out);
    }
    at += point.size;
  }
  out.push_back(quote);
}

Status ReprItems(JinjaEnv& env, const Value::List& items, std::string_view open,
                 std::string_view close, std::string& out) {
  out += open;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    TANDEM_RETURN_IF_ERROR(Repr(env, items[i], out));
  }
  out += close;
  return env.Make(open.size() + close.size() + 2 * items.size());
}

Status ReprList(JinjaEnv& env, const Value& value, std::string& out) {
  const Value::List& items = *value.as_list();
  switch (value.shape()) {
    case Value::Shape::kList:
      return ReprItems(env, items, "[", "]", out);
    case Value::Shape::kTuple:
      return ReprItems(env, items, "(", items.size() == 1 ? ",)" : ")", out);
    case Value::Shape::kRange:
    case Value::Shape::kView:
      break;
  }
  return env.Error("cannot print a range or the view of a map; use | list");
}

Status ReprMap(JinjaEnv& env, const Value::Map& map, std::string& out) {
  out.push_back('{');
  bool first = true;
  for (const auto& [key, value] : map) {
    TANDEM_RETURN_IF_ERROR(env.Make(4 + key.size()));
    if (!std::exchange(first, false)) out += ", ";
    TANDEM_RETURN_IF_ERROR(Repr(env, ValueOfKey(key), out));
    out += ": ";
    TANDEM_RETURN_IF_ERROR(Repr(env, value, out));
  }
  out.push_back('}');
  return env.Make(2);
}

// --- JSON

class JsonWriter {
 public:
  JsonWriter(JinjaEnv& env, const JinjaJsonOptions& options) : env_(env), options_(options) {}

  Status Write(const Value& value, int level);
  std::string Take() { return std::move(out_); }

 private:
  Status WriteList(const Value::List& list, int level);
  Status WriteMap(const Value::Map& map, int level);
  Status WriteKey(const std::string& key, int level);
  void WriteText(std::string_view text);
  void WriteEscaped(uint32_t c);
  void NewLine(int level);
  Status CountBytes();

  JinjaEnv& env_;
  const JinjaJsonOptions& options_;
  std::string out_;
  size_t counted_ = 0;
};

Status JsonWriter::Write(const Value& value, int level) {
  TANDEM_RETURN_IF_ERROR(env_.Work());
  TANDEM_RETURN_IF_ERROR(CountBytes());
  if (const std::string* text = value.as_string()) {
    WriteText(*text);
  } else if (value.as_map() != nullptr) {
    return WriteMap(*value.as_map(), level);
  } else if (value.as_list() != nullptr && value.shape() <= Value::Shape::kTuple) {
    return WriteList(*value.as_list(), level);
  } else if (value.is_none()) {
    out_ += "null";
  } else if (const bool* b = value.as_bool()) {
    out_ += *b ? "true" : "false";
  } else if (const int64_t* i = value.as_int()) {
    out_ += fmt::format("{}", *i);
  } else if (const double* f = value.as_float()) {
    out_ += std::isnan(*f)   ? "NaN"
            : std::isinf(*f) ? (*f < 0 ? "-Infinity" : "Infinity")
                             : FloatText(*f);
  } else {
    return env_.Error("a value of kind {} has no JSON form", value.kind_name());
  }
  return CountBytes();
}

// What was written since the last time, white space included.
Status JsonWriter::CountBytes() {
  const size_t size = out_.size();
  return env_.Make(size - std::exchange(counted_, size));
}

Status JsonWriter::WriteList(const Value::List& list, int level) {
  out_.push_back('[');
  for (size_t i = 0; i < list.size(); ++i) {
    if (i > 0) out_ += options_.item_separator;
    NewLine(level + 1);
    TANDEM_RETURN_IF_ERROR(Write(list[i], level + 1));
  }
  if (!list.empty()) NewLine(level);
  out_.push_back(']');
  return CountBytes();
}

Status JsonWriter::WriteMap(const Value::Map& map, int level) {
  std::vector<const std::pair<std::string, Value>*> entries;
  for (const auto& entry : map) entries.push_back(&entry);
  if (options_.sort_keys) {
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto* a, const auto* b) { return a->first < b->first; });
  }
  out_.push_back('{');
  bool first = true;
  for (const auto* entry : entries) {
    if (!std::exchange(first, false)) out_ += options_.item_separator;
    NewLine(level + 1);
    TANDEM_RETURN_IF_ERROR(WriteKey(entry->first, level));
    out_ += options_.key_separator;
    TANDEM_RETURN_IF_ERROR(Write(entry->second, level + 1));
  }
  if (!map.empty()) NewLine(level);
  out_.push_back('}');
  return CountBytes();
}

// JSON has no keys but text.
Status JsonWriter::WriteKey(const std::string& key, int level) {
  const Value value = ValueOfKey(key);
  const bool is_text = value.as_string() != nullptr;
  if (!is_text) out_.push_back('"');
  TANDEM_RETURN_IF_ERROR(Write(value, level));
  if (!is_text) out_.push_back('"');
  return OkStatus();
}

void JsonWriter::NewLine(int level) {
  if (!options_.indent) return;
  out_.push_back('\n');
  for (int i = 0; i < level; ++i) out_ += *options_.indent;
}

void JsonWriter::WriteText(std::string_view text) {
  out_.push_back('"');
  for (size_t at = 0; at < text.size();) {
    // Most text needs no escapes: whole runs are copied.
    size_t end = at;
    while (end < text.size() && text[end] != '"' && text[end] != '\\' &&
           static_cast<unsigned char>(text[end]) >= 0x20 &&
           (!options_.ensure_ascii || (text[end] & 0x80) == 0)) {
      ++end;
    }
    out_ += text.substr(at, end - at);
    if (end == text.size()) break;
    const CodePoint point = ReadCodePoint(text, end);
    WriteEscaped(point.value);
    at = end + point.size;
  }
  out_.push_back('"');
}

void JsonWriter::WriteEscaped(uint32_t c) {
  constexpr std::string_view kShort = "\"\\\n\r\t\b\f";
  constexpr std::string_view kLetters = "\"\\nrtbf";
  if (const size_t i = c < 0x80 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
      i != std::string_view::npos) {
    out_.push_back('\\');
    out_.push_back(kLetters[i]);
  } else if (c < 0x10000) {
    fmt::format_to(std::back_inserter(out_), "\\u{:04x}", c);
  } else {
    fmt::format_to(std::back_inserter(out_), "\\u{:04x}\\u{:04x}", 0xd7c0 + (c >> 10),
                   0xdc00 + (c & 0x3ff));
  }
}

}  // namespace

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer;
  const auto shortest = [&](std::chars_format format) {
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format);
    return std::string(buffer.data(), end.ptr);
  };
  const double size = std::abs(value);
  // Python's repr() changes to exponents below 1e-4 and from 1e16 on.
  if (size != 0 && (size < 1e-4 || size >= 1e16)) return shortest(std::chars_format::scientific);
  std::string text = shortest(std::chars_format::fixed);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

Status Print(JinjaEnv& env, const Value& value, std::string& out) {
  if (const std::string* text = value.as_string()) {
    out += *text;
    return env.Make(text->size());
  }
  if (value.is_undefined()) return OkStatus();
  return Repr(env, value, out);
}

Status Repr(JinjaEnv& env, const Value& value, std::string& out) {
  TANDEM_RETURN_IF_ERROR(env.Work());
  if (value.as_list() != nullptr) return ReprList(env, value, out);
  if (value.as_map() != nullptr) return ReprMap(env, *value.as_map(), out);
  const size_t before = out.size();
  if (const std::string* text = value.as_string()) {
    ReprText(*text, out);
  } else if (const bool* b = value.as_bool()) {
    out += *b ? "True" : "False";
  } else if (const int64_t* i = value.as_int()) {
    out += fmt::format("{}", *i);
  } else if (const double* f = value.as_float()) {
    out += FloatText(*f);
  } else if (value.is_none()) {
    out += "None";
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else {
    return env.Error("cannot print a value of kind {}", value.kind_name());
  }
  return env.Make(out.size() - before);
}

StatusOr<std::string> Str(JinjaEnv& env, const Value& value) {
  std::string out;
  TANDEM_RETURN_IF_ERROR(Print(env, value, out));
  return out;
}

StatusOr<std::string> ToJson(JinjaEnv& env, const Value& value, const JinjaJsonOptions& options) {
  JsonWriter writer(env, options);
  TANDEM_RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.Take();
}

}  // namespace tandem::text
