// tandem-make-tiny-model OUT [family=NAME] [option=NUMBER|TYPE]...: writes the random model that
// tests without a real one use, or one of a family (tiny_model.h), with
// changes in the order given. Tokens of context: 2048 unless said otherwise.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>

#include "tests/support/tiny_model.h"

namespace {

using tandem::gguf::TensorType;
using tandem::testing::TinyModelOptions;

const std::map<std::string_view, int TinyModelOptions::*> kNumbers = {
    {"layers", &TinyModelOptions::num_layers},
    {"heads", &TinyModelOptions::num_heads},
    {"kv_heads", &TinyModelOptions::num_kv_heads},
    {"head_dim", &TinyModelOptions::head_dim},
    {"hidden", &TinyModelOptions::hidden},
    {"ffn", &TinyModelOptions::ffn},
    {"context", &TinyModelOptions::max_context},
    {"sliding_window", &TinyModelOptions::sliding_window},
};
const std::map<std::string_view, TensorType TinyModelOptions::*> kTypes = {
    {"type", &TinyModelOptions::type},
    {"embedding_type", &TinyModelOptions::embedding_type},
};

bool SetType(const std::string& name, TensorType* type) {
  for (const TensorType known : {TensorType::kF32, TensorType::kF16, TensorType::kBf16,
                                 TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ8_0}) {
    if (name == tandem::gguf::TypeName(known)) return *type = known, true;
  }
  return false;
}

// The context stays that of a served model: tests need room for prompts.
bool SetFamily(const std::string& name, TinyModelOptions* options) {
  for (const std::string& family : tandem::testing::TinyFamilies()) {
    if (family != name) continue;
    const int max_context = options->max_context;
    *options = tandem::testing::TinyFamily(name);
    options->max_context = max_context;
    return true;
  }
  return false;
}

bool Apply(const std::string& argument, TinyModelOptions* options) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) return false;
  const std::string name = argument.substr(0, equals), value = argument.substr(equals + 1);
  if (name == "family") return SetFamily(value, options);
  if (const auto type = kTypes.find(name); type != kTypes.end()) {
    return SetType(value, &(options->*type->second));
  }
  const int number = std::atoi(value.c_str());
  if (const auto field = kNumbers.find(name); field != kNumbers.end() && number > 0) {
    return options->*field->second = number, true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  TinyModelOptions options;
  options.max_context = 2048;
  for (int i = 2; i < argc; ++i) {
    if (!Apply(argv[i], &options)) {
      std::fprintf(stderr, "%s is not an option; see make_tiny_model.cc\n", argv[i]);
      return 2;
    }
  }
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: tandem-make-tiny-model OUT.gguf [family=NAME] [option=value]...\n");
    return 2;
  }
  tandem::testing::WriteTinyModel(argv[1], options);
}
