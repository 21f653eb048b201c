#include "common/tokenizer/utf8.h"

#include <cstring>

namespace tandem::text {
namespace {

bool IsContinuation(unsigned char byte) { return (byte & 0xc0) == 0x80; }

// Bytes that follow this first byte; -1: none of UTF-8 begins so.
int ContinuationBytes(unsigned char first) {
  if (first < 0x80) return 0;
  if (first < 0xc2) return -1;  // a continuation, or overlong
  if (first < 0xe0) return 1;
  if (first < 0xf0) return 2;
  return first < 0xf5 ? 3 : -1;
}

// Whether `second` may follow `first` (which asks for continuations): the table 3-7 of the Unicode
// standard, where only the second byte has bounds of its own.
bool IsSecondByte(unsigned char first, unsigned char second) {
  switch (first) {
    case 0xe0:
      return second >= 0xa0 && second <= 0xbf;  // below: overlong
    case 0xed:
      return second >= 0x80 && second <= 0x9f;  // above: surrogates
    case 0xf0:
      return second >= 0x90 && second <= 0xbf;  // below: overlong
    case 0xf4:
      return second >= 0x80 && second <= 0x8f;  // above: past U+10FFFF
    default:
      return IsContinuation(second);
  }
}

// Bytes of the character that begins at text[position]; 0: none does.
size_t CharacterSize(std::string_view text, size_t position) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[position + i]); };
  const int continuations = ContinuationBytes(byte(0));
  if (continuations <= 0) return continuations == 0 ? 1 : 0;
  const auto size = static_cast<size_t>(continuations) + 1;
  if (text.size() - position < size || !IsSecondByte(byte(0), byte(1))) return 0;
  for (size_t i = 2; i < size; ++i) {
    if (!IsContinuation(byte(i))) return 0;
  }
  return size;
}

// Length of the ASCII text that begins at `position`.
size_t AsciiRun(std::string_view text, size_t position) {
  size_t end = position;
  for (uint64_t word = 0; end + sizeof(word) <= text.size(); end += sizeof(word)) {
    std::memcpy(&word, text.data() + end, sizeof(word));
    if ((word & 0x8080808080808080) != 0) break;
  }
  while (end < text.size() && static_cast<unsigned char>(text[end]) < 0x80) ++end;
  return end - position;
}

}  // namespace

bool IsValidUtf8(std::string_view bytes) {
  for (size_t at = AsciiRun(bytes, 0); at < bytes.size(); at += AsciiRun(bytes, at)) {
    const size_t size = CharacterSize(bytes, at);
    if (size == 0) return false;
    at += size;
  }
  return true;
}

CodePoint ReadCodePoint(std::string_view text, size_t position) {
  const size_t size = CharacterSize(text, position);
  const auto first = static_cast<unsigned char>(text[position]);
  if (size == 1) return {first, 1};
  if (size == 0) return {0xfffd, 1};
  uint32_t value = first & (0x7fu >> size);
  for (size_t i = 1; i < size; ++i) {
    value = value << 6 | (static_cast<unsigned char>(text[position + i]) & 0x3fu);
  }
  return {value, size};
}

CodePoint LastCodePoint(std::string_view text) {
  for (size_t size = 1; size <= 4 && size <= text.size(); ++size) {
    const CodePoint point = ReadCodePoint(text, text.size() - size);
    if (point.size == size && (size > 1 || point.value < 0x80)) return point;
  }
  return {0xfffd, 1};
}

bool Utf8Stream::Continues(unsigned char byte) const {
  if (pending_.size() > 1) return IsContinuation(byte);
  return IsSecondByte(static_cast<unsigned char>(pending_[0]), byte);
}

void Utf8Stream::Start(unsigned char byte, std::string& out) {
  missing_ = ContinuationBytes(byte);
  if (missing_ == 0) {
    out.push_back(static_cast<char>(byte));
  } else if (missing_ < 0) {
    out += kReplacementCharacter;
    missing_ = 0;
  } else {
    pending_.assign(1, static_cast<char>(byte));
  }
}

void Utf8Stream::Push(std::string_view bytes, std::string& out) {
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (missing_ > 0 && !Continues(byte)) Finish(out);
    if (missing_ == 0) {
      Start(byte, out);
      continue;
    }
    pending_.push_back(c);
    if (--missing_ == 0) {
      out += pending_;
      pending_.clear();
    }
  }
}

void Utf8Stream::Finish(std::string& out) {
  if (missing_ > 0) out += kReplacementCharacter;
  pending_.clear();
  missing_ = 0;
}

}  // namespace tandem::text
