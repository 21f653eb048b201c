// The steps of a tokenizer.json: its normalizer, pre_tokenizer and decoder trees. For .cc files
// only, as json_reader.h is. Errors name the step that is not supported.
#pragma once

#include "common/status.h"
#include "common/tokenizer/json_reader.h"
#include "common/tokenizer/normalizer.h"
#include "common/tokenizer/pre_tokenizer.h"
#include "common/tokenizer/tokenizer_spec.h"

namespace tandem::text {

Status AddNormalizer(const JsonPlace& place, Normalizer& normalizer);

class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(PreTokenizer& pre_tokenizer) : pre_tokenizer_(pre_tokenizer) {}
  Status Add(const JsonPlace& place);
  // A ByteLevel step was read: pieces go on as bytes. It must be the last step.
  bool byte_level() const { return byte_level_; }

 private:
  Status AddSplit(const JsonPlace& place);
  Status AddByteLevel(const JsonPlace& place);
  Status AddMetaspace(const JsonPlace& place);
  Status AddOther(const JsonPlace& place, std::string_view type);

  PreTokenizer& pre_tokenizer_;
  bool byte_level_ = false;
};

// Fills what `spec` says of decoding. REQUIRES: spec.byte_level is set.
Status ReadDecoder(const JsonPlace& place, TokenizerSpec& spec);

}  // namespace tandem::text
