#include "kernels/cuda/matmul_algorithms.h"

#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

namespace tandem::kernels::cuda {
namespace {

constexpr std::string_view kFormat = "tandem matmul algorithms 1; ";

// Takes the text up to `end` off `rest`.
std::string_view Next(std::string_view& rest, char end) {
  const size_t size = std::min(rest.find(end), rest.size());
  const std::string_view word = rest.substr(0, size);
  rest.remove_prefix(std::min(size + 1, rest.size()));
  return word;
}

bool ParseNumber(std::string_view word, int64_t& n) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), n);
  return error == std::errc() && end == word.data() + word.size() && n > 0;
}

// One of two words.
bool ParseWord(std::string_view word, std::string_view no, std::string_view yes, bool& value) {
  value = word == yes;
  return value || word == no;
}

bool ParseHex(std::string_view word, MatMulAlgorithms::Algorithm& algorithm) {
  if (word.size() != 2 * algorithm.size()) return false;
  for (size_t i = 0; i < algorithm.size(); ++i) {
    uint8_t byte = 0;
    const char* begin = word.data() + 2 * i;
    const auto [end, error] = std::from_chars(begin, begin + 2, byte, 16);
    if (error != std::errc() || end != begin + 2) return false;
    algorithm[i] = std::byte{byte};
  }
  return true;
}

bool ParseLine(std::string_view line, MatMulShape& shape, MatMulAlgorithms::Algorithm& algorithm) {
  for (int64_t* number : {&shape.rows, &shape.n, &shape.k, &shape.x_stride, &shape.out_stride}) {
    if (!ParseNumber(Next(line, ' '), *number)) return false;
  }
  bool is_f16 = false;
  if (!ParseWord(Next(line, ' '), "bf16", "f16", is_f16) ||
      !ParseWord(Next(line, ' '), "-", "f32", shape.out_f32) ||
      !ParseWord(Next(line, ' '), "-", "bias", shape.has_bias)) {
    return false;
  }
  shape.type = is_f16 ? ActivationType::kF16 : ActivationType::kBf16;
  return ParseHex(Next(line, ' '), algorithm) && line.empty();
}

std::string Line(const MatMulShape& s, const MatMulAlgorithms::Algorithm& algorithm) {
  std::string line = fmt::format("{} {} {} {} {} {} {} {} ", s.rows, s.n, s.k, s.x_stride,
                                 s.out_stride, s.type == ActivationType::kF16 ? "f16" : "bf16",
                                 s.out_f32 ? "f32" : "-", s.has_bias ? "bias" : "-");
  for (const std::byte byte : algorithm) line += fmt::format("{:02x}", std::to_integer<int>(byte));
  return line;
}

}  // namespace

std::string Describe(const MatMulShape& shape) {
  return fmt::format("[{}, {}] = [{}, {}] x W^T, {} into {}{}", shape.rows, shape.n, shape.rows,
                     shape.k, shape.type == ActivationType::kF16 ? "f16" : "bf16",
                     shape.out_f32 ? "f32" : "the same", shape.has_bias ? ", with bias" : "");
}

Status MatMulAlgorithms::Open(const std::string& path, const std::string& library_and_device) {
  path_ = path;
  first_line_ = std::string(kFormat) + library_and_device;
  if (path.empty()) return OkStatus();
  std::ifstream file(path, std::ios::binary);
  if (!file) return OkStatus();  // the first start
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  std::string_view rest = text;
  if (Next(rest, '\n') != first_line_) {
    return InvalidArgument("{} is of another device or version and is not used; expected \"{}\"",
                           path, first_line_);
  }
  if (Parse(rest)) return OkStatus();
  algorithms_.clear();
  return InvalidArgument("{} is damaged and is not used", path);
}

bool MatMulAlgorithms::Parse(std::string_view text) {
  if (!text.empty() && text.back() != '\n') return false;  // cut off
  while (!text.empty()) {
    MatMulShape shape;
    Algorithm algorithm;
    if (!ParseLine(Next(text, '\n'), shape, algorithm)) return false;
    algorithms_[shape] = algorithm;
  }
  return true;
}

const MatMulAlgorithms::Algorithm* MatMulAlgorithms::Find(const MatMulShape& shape) const {
  const auto it = algorithms_.find(shape);
  return it == algorithms_.end() ? nullptr : &it->second;
}

void MatMulAlgorithms::Set(const MatMulShape& shape, const Algorithm& algorithm) {
  algorithms_[shape] = algorithm;
  is_saved_ = false;
}

// Through a name of this process's own: ranks may share the path, and readers see a whole file.
Status MatMulAlgorithms::Save() {
  if (path_.empty() || is_saved_) return OkStatus();
  const std::string temporary = fmt::format("{}.{}", path_, getpid());
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << first_line_ << '\n';
    for (const auto& [shape, algorithm] : algorithms_) file << Line(shape, algorithm) << '\n';
    file.flush();
    if (!file) return Unavailable("cannot write {}", temporary);
  }
  std::error_code error;
  std::filesystem::rename(temporary, path_, error);
  if (error) return Unavailable("cannot replace {}: {}", path_, error.message());
  is_saved_ = true;
  return OkStatus();
}

}  // namespace tandem::kernels::cuda
