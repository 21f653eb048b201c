#include "tests/support/tiny_model.h"

#include <array>
#include <bit>
#include <cmath>
#include <fstream>
#include <random>
#include <utility>

#include "common/check.h"
#include "tests/common/gguf/gguf_builder.h"

namespace tandem::testing {
namespace {

using gguf::GgufBuilder;
using gguf::TensorType;

// As in SmolLM2's file.
constexpr const char* kTemplate =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}";

// Byte-level BPE spells each byte as a printable character (OpenAI's GPT-2 encoder): itself where
// it is one, else U+0100 onward.
std::vector<std::string> ByteTokens() {
  std::vector<std::string> tokens;
  const auto utf8 = [](int c) {
    return c < 0x80 ? std::string(1, static_cast<char>(c))
                    : std::string{static_cast<char>(0xc0 | c >> 6),
                                  static_cast<char>(0x80 | (c & 0x3f))};
  };
  int next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    tokens.push_back(utf8(printable ? b : next++));
  }
  return tokens;
}

struct Vocabulary {
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types;
};

Vocabulary MakeVocabulary() {
  Vocabulary v;
  v.tokens = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (std::string& token : ByteTokens()) v.tokens.push_back(std::move(token));
  // "\u0120" is a space.
  constexpr std::pair<const char*, const char*> kMerges[] = {
      {"\u0120", "t"}, {"h", "e"},  {"\u0120", "a"}, {"i", "n"}, {"\u0120t", "he"}, {"e", "r"},
      {"o", "n"},      {"r", "e"},  {"\u0120", "s"}, {"a", "t"}, {"l", "l"},        {"\u0120", "w"},
      {"o", "u"},      {"in", "g"}, {"a", "n"},      {"l", "o"}};
  for (const auto& [left, right] : kMerges) {
    v.merges.push_back(std::string(left) + " " + right);
    v.tokens.push_back(std::string(left) + right);
  }
  v.types.assign(v.tokens.size(), 1);
  std::fill_n(v.types.begin(), 3, 3);  // control tokens
  return v;
}

uint16_t ToHalf(float value) {  // normal numbers only, rounded to nearest
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude < 0x38800000) return static_cast<uint16_t>(sign);  // below 2^-14: zero
  return static_cast<uint16_t>(sign | ((magnitude + 0x1000 - 0x38000000) >> 13));
}

float FromHalf(uint16_t half) {
  if ((half & 0x7c00) == 0) return (half & 0x8000 ? -1 : 1) * std::ldexp(half & 0x3ff, -24);
  const uint32_t bits = (half & 0x8000u) << 16 | (((half & 0x7fffu) << 13) + 0x38000000u);
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

template <class T>
void Put(std::vector<std::byte>& out, T value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof(T));
}

template <class T>
T Take(const std::byte*& from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  from += sizeof(T);
  return value;
}

int Clamp(float value, int low, int high) {
  return std::min(std::max(static_cast<int>(std::lround(value)), low), high);
}

void PutNibbles(std::vector<std::byte>& out, const std::array<int, 32>& q) {
  for (int i = 0; i < 16; ++i) Put(out, static_cast<uint8_t>(q[i] | q[16 + i] << 4));
}

float RoundToBf16(float value) {  // finite
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits += 0x7fff + (bits >> 16 & 1);
  bits &= 0xffff0000;
  std::memcpy(&value, &bits, 4);
  return value;
}

// With a scale that is a power of two, and an offset that is a small multiple of it, d * q + m has
// few enough bits for bf16.
float PowerOfTwo(float d) { return std::exp2(std::ceil(std::log2(d))); }

void QuantizeBlock(TensorType type, const float* v, bool exact, std::vector<std::byte>& out) {
  float low = v[0], high = v[0];
  for (int i = 1; i < 32; ++i) {
    low = std::min(low, v[i]);
    high = std::max(high, v[i]);
  }
  const float largest = std::max(-low, high);
  std::array<int, 32> q;
  if (type == TensorType::kQ4_1) {
    const float step = exact ? PowerOfTwo((high - low) / 14) : (high - low) / 15;
    const uint16_t d = ToHalf(step), m = ToHalf(exact ? std::floor(low / step) * step : low);
    for (int i = 0; i < 32; ++i) q[i] = Clamp((v[i] - FromHalf(m)) / FromHalf(d), 0, 15);
    Put(out, d);
    Put(out, m);
    PutNibbles(out, q);
  } else if (type == TensorType::kQ4_0) {
    const uint16_t d = ToHalf(exact ? PowerOfTwo(largest / 7) : largest / 7);
    for (int i = 0; i < 32; ++i) q[i] = Clamp(v[i] / FromHalf(d) + 8, 0, 15);
    Put(out, d);
    PutNibbles(out, q);
  } else {
    const uint16_t d = ToHalf(exact ? PowerOfTwo(largest / 127) : largest / 127);
    Put(out, d);
    for (int i = 0; i < 32; ++i) {
      Put(out, static_cast<int8_t>(Clamp(v[i] / FromHalf(d), -127, 127)));
    }
  }
}

void DequantizeBlock(TensorType type, const std::byte*& from, float* out) {
  const float d = FromHalf(Take<uint16_t>(from));
  if (type == TensorType::kQ8_0) {
    for (int i = 0; i < 32; ++i) out[i] = d * Take<int8_t>(from);
    return;
  }
  const bool has_min = type == TensorType::kQ4_1;
  const float m = has_min ? FromHalf(Take<uint16_t>(from)) : -8 * d;
  for (int i = 0; i < 16; ++i) {
    const auto byte = Take<uint8_t>(from);
    out[i] = d * (byte & 15) + m;
    out[16 + i] = d * (byte >> 4) + m;
  }
}

class Writer {
 public:
  explicit Writer(const TinyModelOptions& options) : options_(options), rng_(options.seed) {}

  std::string Write() {
    const Vocabulary vocabulary = MakeVocabulary();
    Metadata(vocabulary);
    RopeMetadata();
    const int vocab = static_cast<int>(vocabulary.tokens.size());
    Matrix("token_embd.weight", vocab, options_.hidden, options_.embedding_type, 1);
    for (int i = 0; i < options_.num_layers; ++i) Layer("blk." + std::to_string(i) + ".");
    Norm("output_norm.weight", options_.hidden);
    if (options_.rope_freqs) RopeFreqs();
    if (!options_.tied_embeddings) {
      // Logits with a spread of 3: neither flat nor certain.
      Matrix("output.weight", vocab, options_.hidden, options_.embedding_type, 3);
    }
    return builder_.Build();
  }

 private:
  void Metadata(const Vocabulary& v) {
    const auto size = [&](const char* key, int value) {
      builder_.Uint32(options_.architecture + "." + key, value);
    };
    builder_.String("general.architecture", options_.architecture)
        .String("general.name", "tiny random model");
    size("block_count", options_.num_layers);
    size("context_length", options_.max_context);
    size("embedding_length", options_.hidden);
    size("feed_forward_length", options_.ffn);
    size("attention.head_count", options_.num_heads);
    size("attention.head_count_kv", options_.num_kv_heads);
    size("attention.key_length", options_.head_dim);
    size("attention.value_length", options_.head_dim);
    size("rope.dimension_count", options_.head_dim);
    size("vocab_size", static_cast<int>(v.tokens.size()));
    builder_.Float32(options_.architecture + ".rope.freq_base", options_.rope_theta)
        .Float32(options_.architecture + ".attention.layer_norm_rms_epsilon", 1e-5f)
        .String("tokenizer.ggml.model", "gpt2")
        .String("tokenizer.ggml.pre", "smollm")
        .Strings("tokenizer.ggml.tokens", v.tokens)
        .Ints("tokenizer.ggml.token_type", v.types)
        .Strings("tokenizer.ggml.merges", v.merges)
        .Uint32("tokenizer.ggml.bos_token_id", 1)
        .Uint32("tokenizer.ggml.eos_token_id", 2)
        .Uint32("tokenizer.ggml.unknown_token_id", 0)
        .Uint32("tokenizer.ggml.padding_token_id", 2)
        .Bool("tokenizer.ggml.add_bos_token", false)
        .Bool("tokenizer.ggml.add_space_prefix", false)
        .String("tokenizer.chat_template", kTemplate);
  }

  void RopeMetadata() {
    const std::string& prefix = options_.architecture;
    if (!options_.rope_scaling.empty()) {
      builder_.String(prefix + ".rope.scaling.type", options_.rope_scaling)
          .Float32(prefix + ".rope.scaling.factor", options_.rope_factor)
          .Float32(prefix + ".rope.scaling.attn_factor", options_.rope_attention_factor)
          .Uint32(prefix + ".rope.scaling.original_context_length", options_.original_context);
    }
    if (options_.sliding_window > 0) {
      builder_.Uint32(prefix + ".attention.sliding_window", options_.sliding_window);
    }
  }

  // What llama.cpp's converter writes for Llama 3.1: pairs that turn more than 4 times in the
  // original context keep their frequency, those that turn less than once are divided by the
  // factor, and those between by something between.
  void RopeFreqs() {
    std::vector<float> factors(options_.head_dim / 2);
    for (size_t i = 0; i < factors.size(); ++i) {
      const double angle = std::pow(options_.rope_theta, -2.0 * i / options_.head_dim);
      const double turns = options_.original_context * angle / (2 * M_PI);
      const double smooth = std::min(1.0, std::max(0.0, (turns - 1) / 3));
      factors[i] = static_cast<float>(1 / ((1 - smooth) / options_.rope_factor + smooth));
    }
    builder_.F32("rope_freqs.weight", {factors.size()}, factors);
  }

  void Layer(const std::string& prefix) {
    const int q = options_.num_heads * options_.head_dim;
    const int kv = options_.num_kv_heads * options_.head_dim;
    const auto matrix = [&](const char* name, int rows, int cols) {
      Matrix(prefix + name + ".weight", rows, cols, options_.type, 1);
    };
    Norm(prefix + "attn_norm.weight", options_.hidden);
    matrix("attn_q", q, options_.hidden);
    matrix("attn_k", kv, options_.hidden);
    matrix("attn_v", kv, options_.hidden);
    if (options_.qkv_bias || options_.architecture == "qwen2") {
      Bias(prefix + "attn_q.bias", q);
      Bias(prefix + "attn_k.bias", kv);
      Bias(prefix + "attn_v.bias", kv);
    }
    if (options_.architecture == "qwen3") {
      Norm(prefix + "attn_q_norm.weight", options_.head_dim);
      Norm(prefix + "attn_k_norm.weight", options_.head_dim);
    }
    matrix("attn_output", options_.hidden, q);
    Norm(prefix + "ffn_norm.weight", options_.hidden);
    matrix("ffn_gate", options_.ffn, options_.hidden);
    matrix("ffn_up", options_.ffn, options_.hidden);
    matrix("ffn_down", options_.hidden, options_.ffn);
  }

  // Random, so that a row of unit inputs gives outputs of variance spread^2.
  void Matrix(const std::string& name, int rows, int cols, TensorType type, float spread) {
    if (name == options_.without) return;
    if (name == options_.misshape) ++rows;
    std::vector<float> values(static_cast<size_t>(rows) * cols);
    for (float& v : values) v = Uniform() * spread * std::sqrt(3.0f / static_cast<float>(cols));
    builder_.Tensor(name, {static_cast<uint64_t>(cols), static_cast<uint64_t>(rows)},
                    static_cast<uint32_t>(type), Quantize(type, values, options_.exact_in_bf16));
  }

  void Norm(const std::string& name, int size) { Vector(name, size, 1, 0.2f); }
  void Bias(const std::string& name, int size) { Vector(name, size, 0, 0.5f); }

  void Vector(const std::string& name, int size, float middle, float spread) {
    if (name == options_.without) return;
    std::vector<float> values(size);
    for (float& v : values) {
      v = middle + spread * Uniform();
      if (options_.exact_in_bf16) v = RoundToBf16(v);
    }
    builder_.F32(name, {values.size()}, values);
  }

  // In (-1, 1), the same with every standard library.
  float Uniform() { return (static_cast<float>(rng_() >> 8) + 0.5f) * 0x1p-23f - 1; }

  TinyModelOptions options_;
  std::mt19937 rng_;
  GgufBuilder builder_;
};

}  // namespace

std::vector<std::byte> Quantize(TensorType type, std::span<const float> values, bool exact) {
  std::vector<std::byte> out;
  if (type == TensorType::kF32) {
    for (const float v : values) Put(out, exact ? RoundToBf16(v) : v);
  } else if (type == TensorType::kF16) {
    for (const float v : values) Put(out, ToHalf(exact ? RoundToBf16(v) : v));
  } else if (type == TensorType::kBf16) {
    for (const float v : values) {
      Put(out, static_cast<uint16_t>(std::bit_cast<uint32_t>(RoundToBf16(v)) >> 16));
    }
  } else {
    TANDEM_CHECK(gguf::IsSupported(type) && values.size() % 32 == 0) << values.size();
    for (size_t i = 0; i < values.size(); i += 32)
      QuantizeBlock(type, values.data() + i, exact, out);
  }
  return out;
}

std::vector<float> Dequantize(TensorType type, std::span<const std::byte> data) {
  const std::byte* from = data.data();
  const int elements = gguf::BlockElements(type);
  std::vector<float> out(data.size() / gguf::BlockBytes(type) * elements);
  for (size_t i = 0; i < out.size(); i += elements) {
    if (type == TensorType::kF32) {
      out[i] = Take<float>(from);
    } else if (type == TensorType::kF16) {
      out[i] = FromHalf(Take<uint16_t>(from));
    } else if (type == TensorType::kBf16) {
      out[i] = std::bit_cast<float>(uint32_t{Take<uint16_t>(from)} << 16);
    } else {
      DequantizeBlock(type, from, out.data() + i);
    }
  }
  return out;
}

std::vector<std::string> TinyFamilies() {
  return {"llama3", "llama-long", "mistral", "qwen2", "qwen2-yarn", "qwen3"};
}

TinyModelOptions TinyFamily(const std::string& name) {
  TinyModelOptions o;
  o.type = o.embedding_type = TensorType::kF32;
  o.exact_in_bf16 = true;
  if (name == "llama3") {
    o.head_dim = 64;
    o.hidden = 192;
    o.rope_theta = 500000;
    o.rope_freqs = true;
    o.rope_factor = 8;
  } else if (name == "llama-long") {
    o.qkv_bias = true;
    o.rope_scaling = "linear";
  } else if (name == "mistral") {
    o.sliding_window = 24;
  } else if (name == "qwen2" || name == "qwen2-yarn") {
    o.architecture = "qwen2";
    o.hidden = 192;
    o.rope_theta = 1e6;
    o.tied_embeddings = true;
    if (name == "qwen2-yarn") o.rope_scaling = "yarn";
  } else if (name == "qwen3") {
    o.architecture = "qwen3";
    o.head_dim = 64;
    o.rope_theta = 1e6;
    o.tied_embeddings = true;
  } else {
    TANDEM_CHECK(false) << "no family " << name;
  }
  return o;
}

std::string MakeTinyModel(const TinyModelOptions& options) { return Writer(options).Write(); }

void WriteTinyModel(const std::string& path, const TinyModelOptions& options) {
  std::ofstream file(path, std::ios::binary);
  const std::string bytes = MakeTinyModel(options);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  TANDEM_CHECK(file.good()) << "cannot write " << path;
}

}  // namespace tandem::testing
