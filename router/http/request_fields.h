// The fields of request bodies: name, endpoints, what values they take, where these go. One table
// for the parser, for /openapi.json and for the tests.
#pragma once

#include <boost/json/fwd.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "router/http/json_fields.h"
#include "router/http/openai_request.h"

namespace tandem::http {

// Sets of endpoints.
inline constexpr uint8_t kOnChat = 1, kOnCompletions = 2, kOnTokenize = 4, kOnDetokenize = 8,
                         kOnResponses = 16, kOnEmbeddings = 32;
inline constexpr uint8_t kOnBoth = kOnChat | kOnCompletions;
inline constexpr uint8_t kOnText = kOnBoth | kOnResponses;  // what makes text

inline uint8_t SetOf(Endpoint endpoint) {
  return static_cast<uint8_t>(1 << static_cast<int>(endpoint));
}

// Values that need more than a type and bounds; `schema` says in JSON Schema what is read.
struct Field {
  std::string_view name;
  uint8_t on;
  FieldError (*read)(const std::string& param, const boost::json::value& v, ApiRequest& out);
  std::string_view schema;
  bool required = false;
};
struct NumberField {
  std::string_view name;
  uint8_t on;
  double low, high;
  bool above_low, below_high;  // the bound itself is out
  std::optional<float> ApiRequest::*to;
};
struct IntField {
  std::string_view name;
  uint8_t on;
  int32_t low, high;
  int32_t ApiRequest::*to;
};
struct FlagField {
  std::string_view name;
  uint8_t on;
  bool ApiRequest::*to;
};
// Known, and refused unless the value says what happens anyway: `neutral`, in JSON; empty: none but
// null.
struct RefusedField {
  std::string_view name;
  uint8_t on;
  std::string_view neutral;
  std::string_view why;
};

std::span<const Field> Fields();
std::span<const NumberField> NumberFields();
std::span<const IntField> IntFields();
std::span<const FlagField> FlagFields();
std::span<const RefusedField> RefusedFields();

// One member of a body. Null is as if it were not there, unless the field is required.
FieldError ReadField(std::string_view name, const boost::json::value& v, ApiRequest& out);

// JSON Schemas of the fields that stand outside the table of Fields().
std::string SchemaOf(const NumberField& field);
std::string SchemaOf(const IntField& field);
std::string SchemaOf(const RefusedField& field);

// chat_messages.cc
FieldError ReadMessages(const std::string& param, const boost::json::value& v, ApiRequest& out);
// Of a call: the JSON text that OpenAI has, or the object that it says; no text is an empty object.
FieldError ReadArguments(const std::string& param, const boost::json::value& v,
                         text::JinjaValue& out);
// chat_fields.cc
FieldError ReadDocuments(const std::string& param, const boost::json::value& v, ApiRequest& out);
FieldError ReadTemplateKwargs(const std::string& param, const boost::json::value& v,
                              ApiRequest& out);
FieldError ReadTools(const std::string& param, const boost::json::value& v, ApiRequest& out);
FieldError ReadToolChoice(const std::string& param, const boost::json::value& v, ApiRequest& out);
FieldError ReadReasoningEffort(const std::string& param, const boost::json::value& v,
                               ApiRequest& out);
// grammar_fields.cc
FieldError ReadResponseFormat(const std::string& param, const boost::json::value& v,
                              ApiRequest& out);
FieldError ReadTextFormat(const std::string& param, const boost::json::value& v, ApiRequest& out);
FieldError ReadGuided(const std::string& param, const boost::json::value& v, ApiRequest& out);
FieldError ReadStructuredOutputs(const std::string& param, const boost::json::value& v,
                                 ApiRequest& out);
FieldError ReadReasoning(const std::string& param, const boost::json::value& v, ApiRequest& out);
// embeddings_fields.cc
FieldError ReadEncodingFormat(const std::string& param, const boost::json::value& v,
                              ApiRequest& out);
FieldError ReadNormalize(const std::string& param, const boost::json::value& v, ApiRequest& out);
FieldError ReadTruncation(const std::string& param, const boost::json::value& v, ApiRequest& out);
FieldError ReadTruncationSide(const std::string& param, const boost::json::value& v,
                              ApiRequest& out);
// responses_input.cc
FieldError ReadInput(const std::string& param, const boost::json::value& v, ApiRequest& out);

}  // namespace tandem::http
