#include "router/http/openapi.h"

#include <string_view>
#include <utility>

#include "router/http/json_text.h"
#include "router/http/request_fields.h"

namespace tandem::http {
namespace {

// JSON text of an object, a member at a time.
class ObjectText {
 public:
  ObjectText& Add(std::string_view name, std::string_view json) {
    text_ += text_.empty() ? '{' : ',';
    AppendJsonString(text_, name);
    text_ += ':';
    text_ += json;
    return *this;
  }
  std::string Take() {
    if (text_.empty()) text_ += '{';
    text_ += '}';
    return std::move(text_);
  }

 private:
  std::string text_;
};

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(out, text);
  return out;
}

std::string ModelSchema(std::span<const std::string> models, bool required) {
  std::string schema = required ? "{\"enum\":[" : "{\"enum\":[null,";
  for (size_t i = 0; i < models.size(); ++i) {
    if (i > 0) schema += ',';
    AppendJsonString(schema, models[i]);
  }
  schema += "]}";
  return schema;
}

// What a body of this endpoint may be.
std::string BodySchema(Endpoint endpoint, std::span<const std::string> models) {
  const uint8_t on = SetOf(endpoint);
  ObjectText properties;
  std::string required;
  for (const Field& field : Fields()) {
    if ((field.on & on) == 0) continue;
    properties.Add(field.name, field.name == "model" ? ModelSchema(models, field.required)
                                                     : std::string(field.schema));
    if (field.required) {
      required += required.empty() ? '[' : ',';
      AppendJsonString(required, field.name);
    }
  }
  for (const NumberField& field : NumberFields()) {
    if ((field.on & on) != 0) properties.Add(field.name, SchemaOf(field));
  }
  for (const IntField& field : IntFields()) {
    if ((field.on & on) != 0) properties.Add(field.name, SchemaOf(field));
  }
  for (const FlagField& field : FlagFields()) {
    if ((field.on & on) != 0) properties.Add(field.name, R"({"type":["boolean","null"]})");
  }
  for (const RefusedField& field : RefusedFields()) {
    if ((field.on & on) != 0) properties.Add(field.name, SchemaOf(field));
  }
  ObjectText schema;
  schema.Add("type", R"("object")").Add("additionalProperties", "false");
  schema.Add("properties", properties.Take());
  if (!required.empty()) {
    required += ']';
    schema.Add("required", required);
  }
  return schema.Take();
}

std::string Content(std::string_view type, std::string_view schema) {
  return ObjectText().Add(type, ObjectText().Add("schema", schema).Take()).Take();
}

constexpr std::string_view kErrorResponse =
    R"({"description":"What is wrong","content":{"application/json":{"schema":)"
    R"({"$ref":"#/components/schemas/Error"}}}})";
constexpr std::string_view kJson = "application/json";

// `success`: the content of a 200.
std::string Responses(std::string_view success, bool can_fail) {
  ObjectText responses;
  responses.Add("200",
                ObjectText().Add("description", Quoted("Success")).Add("content", success).Take());
  responses.Add("4XX", kErrorResponse);
  if (can_fail) responses.Add("5XX", kErrorResponse);
  return responses.Take();
}

std::string Post(Endpoint endpoint, std::span<const std::string> models, std::string_view summary,
                 std::string_view success) {
  const std::string body = ObjectText()
                               .Add("required", "true")
                               .Add("content", Content(kJson, BodySchema(endpoint, models)))
                               .Take();
  const std::string operation = ObjectText()
                                    .Add("summary", Quoted(summary))
                                    .Add("requestBody", body)
                                    .Add("responses", Responses(success, true))
                                    .Take();
  return ObjectText().Add("post", operation).Take();
}

std::string Get(std::string_view summary, std::string_view success, bool by_model = false) {
  ObjectText operation;
  operation.Add("summary", Quoted(summary));
  if (by_model) {
    operation.Add("parameters", R"([{"name":"model","in":"path","required":true,)"
                                R"("schema":{"type":"string","minLength":1}}])");
  }
  operation.Add("responses", Responses(success, true));
  return ObjectText().Add("get", operation.Take()).Take();
}

// Of a reply that may be a stream.
std::string EventsOr(std::string_view reply) {
  return ObjectText()
      .Add(kJson, ObjectText().Add("schema", reply).Take())
      .Add("text/event-stream", R"({"schema":{"type":"string"}})")
      .Take();
}

std::string Streamable(std::string_view object) {
  std::string reply =
      R"({"type":"object","required":["id","object","created","model","choices","usage"],)"
      R"("properties":{"id":{"type":"string"},"object":{"const":")";
  reply += object;
  reply += R"("},"created":{"type":"integer"},"model":{"type":"string"},)"
           R"("choices":{"type":"array","minItems":1,"items":{"type":"object",)"
           R"("required":["index","finish_reason"]}},"usage":{"type":"object"}}})";
  return EventsOr(reply);
}

std::string Paths(std::span<const std::string> models) {
  ObjectText paths;
  paths.Add("/v1/chat/completions", Post(Endpoint::kChat, models, "Messages in, replies out",
                                         Streamable("chat.completion")));
  paths.Add("/v1/completions", Post(Endpoint::kCompletions, models, "Prompts in, replies out",
                                    Streamable("text_completion")));
  paths.Add(
      "/v1/responses",
      Post(Endpoint::kResponses, models, "A text or messages in, one response out, nothing kept",
           EventsOr(R"({"type":"object","required":["id","object","status","output","usage"]})")));
  paths.Add(
      "/v1/embeddings",
      Post(Endpoint::kEmbeddings, models, "Texts in, a vector of each out",
           Content(kJson, R"({"type":"object","required":["object","data","model","usage"]})")));
  paths.Add("/tokenize",
            Post(Endpoint::kTokenize, models, "A text or a chat as token ids",
                 Content(kJson, R"({"type":"object","required":["count","tokens"]})")));
  paths.Add("/detokenize", Post(Endpoint::kDetokenize, models, "Token ids as text",
                                Content(kJson, R"({"type":"object","required":["prompt"]})")));
  paths.Add("/v1/models", Get("Models and aliases", Content(kJson, R"({"type":"object"})")));
  paths.Add("/v1/models/{model}", Get("One of them", Content(kJson, R"({"type":"object"})"), true));
  const std::string health = Content(kJson, R"({"type":"object","required":["status"]})");
  paths.Add("/health", Get("Whether the router is well, and the state of every group", health));
  paths.Add("/ready", Get("Whether a group can serve", health));
  paths.Add("/metrics", Get("Prometheus text", Content("text/plain", R"({"type":"string"})")));
  paths.Add("/openapi.json", Get("This", Content(kJson, R"({"type":"object"})")));
  return paths.Take();
}

constexpr std::string_view kSchemas =
    R"({"Message":{"type":"object","additionalProperties":false,"required":["role"],)"
    R"("properties":{"role":{"enum":["system","developer","user","assistant","tool"]},)"
    R"("content":{"anyOf":[{"type":["string","null"]},{"type":"array","minItems":1,)"
    R"("items":{"type":"object",)"
    R"("additionalProperties":false,"required":["type","text"],"properties":{)"
    R"("type":{"const":"text"},"text":{"type":"string"}}}}]},)"
    R"("name":{"type":["string","null"],"maxLength":64},)"
    R"("reasoning_content":{"type":["string","null"]},"reasoning":{"type":["string","null"]},)"
    R"("tool_call_id":{"type":["string","null"],"maxLength":64},)"
    R"("tool_calls":{"type":["array","null"],"items":{"$ref":"#/components/schemas/ToolCall"}}}},)"
    R"("ToolCall":{"type":"object","additionalProperties":false,"required":["function"],)"
    R"("properties":{"id":{"type":["string","null"],"maxLength":64},"type":{"const":"function"},)"
    R"("function":{"type":"object","additionalProperties":false,"required":["name"],)"
    R"("properties":{"name":{"type":"string","minLength":1,"maxLength":64},)"
    R"("arguments":{"type":["string","object","null"]}}}}},)"
    R"("Tool":{"type":"object","additionalProperties":false,"required":["type","function"],)"
    R"("properties":{"type":{"const":"function"},"function":{"type":"object",)"
    R"("additionalProperties":false,"required":["name"],"properties":{)"
    R"("name":{"type":"string","pattern":"^[A-Za-z0-9_-]{1,64}$"},)"
    R"("description":{"type":["string","null"]},)"
    R"("parameters":{"type":["object","null"],"properties":{"type":{"const":"object"}}},)"
    R"("strict":{"type":["boolean","null"]}}}}},)"
    R"("ToolChoice":{"type":"object","additionalProperties":false,"required":["type","function"],)"
    R"("properties":{"type":{"const":"function"},"function":{"type":"object",)"
    R"("additionalProperties":false,"required":["name"],"properties":{)"
    R"("name":{"type":"string","pattern":"^[A-Za-z0-9_-]{1,64}$"}}}}},)"
    R"("FlatTool":{"type":"object","additionalProperties":false,"required":["type","name"],)"
    R"("properties":{"type":{"const":"function"},)"
    R"("name":{"type":"string","pattern":"^[A-Za-z0-9_-]{1,64}$"},)"
    R"("description":{"type":["string","null"]},)"
    R"("parameters":{"type":["object","null"],"properties":{"type":{"const":"object"}}},)"
    R"("strict":{"type":["boolean","null"]}}},)"
    R"("FlatToolChoice":{"type":"object","additionalProperties":false,"required":["type","name"],)"
    R"("properties":{"type":{"const":"function"},)"
    R"("name":{"type":"string","pattern":"^[A-Za-z0-9_-]{1,64}$"}}},)"
    R"("InputPart":{"type":"object","additionalProperties":false,"required":["type","text"],)"
    R"("properties":{"type":{"enum":["input_text","output_text"]},"text":{"type":"string"}}},)"
    R"("CallItem":{"type":"object","additionalProperties":false,)"
    R"("required":["type","call_id","name","arguments"],"properties":{)"
    R"("type":{"const":"function_call"},"call_id":{"type":"string","maxLength":64},)"
    R"("name":{"type":"string","minLength":1,"maxLength":64},"arguments":{"type":"string"}}},)"
    R"("CallOutputItem":{"type":"object","additionalProperties":false,)"
    R"("required":["type","call_id","output"],"properties":{)"
    R"("type":{"const":"function_call_output"},"call_id":{"type":"string","maxLength":64},)"
    R"("output":{"type":"string"}}},)"
    R"("Input":{"anyOf":[{"type":"string"},{"type":"array","minItems":1,"items":{"anyOf":[)"
    R"({"$ref":"#/components/schemas/CallItem"},{"$ref":"#/components/schemas/CallOutputItem"},)"
    R"({"type":"object",)"
    R"("additionalProperties":false,"required":["role","content"],"properties":{)"
    R"("type":{"const":"message"},"role":{"enum":["system","developer","user","assistant"]},)"
    R"("content":{"anyOf":[{"type":"string"},{"type":"array","minItems":1,"items":{)"
    R"("$ref":"#/components/schemas/InputPart"}}]}}}]}}]},)"
    R"("Ids":{"type":"array","minItems":1,"items":{"type":"integer","minimum":0,)"
    R"("maximum":2147483647}},)"
    R"("Prompt":{"anyOf":[{"type":"string","minLength":1},{"$ref":"#/components/schemas/Ids"},)"
    R"({"type":"array","minItems":1,"maxItems":256,"items":{"anyOf":[)"
    R"({"type":"string","minLength":1},{"$ref":"#/components/schemas/Ids"}]}}]},)"
    R"("Inputs":{"anyOf":[{"type":"string","minLength":1},{"$ref":"#/components/schemas/Ids"},)"
    R"({"type":"array","minItems":1,"maxItems":2048,"items":{"anyOf":[)"
    R"({"type":"string","minLength":1},{"$ref":"#/components/schemas/Ids"}]}}]},)"
    R"("JsonSchema":{"type":"object","properties":{"type":{"enum":["object","array","string",)"
    R"("integer","number","boolean","null"]}}},)"
    R"("ResponseFormat":{"type":"object","required":["type"],"properties":{)"
    R"("type":{"enum":["text","json_object","json_schema"]},"json_schema":{"type":"object",)"
    R"("required":["schema"],"properties":{"name":{"type":"string"},)"
    R"("description":{"type":"string"},"strict":{"type":["boolean","null"]},)"
    R"("schema":{"$ref":"#/components/schemas/JsonSchema"}}}}},)"
    R"("TextFormat":{"type":"object","additionalProperties":false,"properties":{"format":{)"
    R"("type":"object","required":["type"],"properties":{)"
    R"("type":{"enum":["text","json_object","json_schema"]},"name":{"type":"string"},)"
    R"("description":{"type":"string"},"strict":{"type":["boolean","null"]},)"
    R"("schema":{"$ref":"#/components/schemas/JsonSchema"}}}}},)"
    R"("StructuredOutputs":{"type":"object","maxProperties":1,"additionalProperties":false,)"
    R"("properties":{"json":{"$ref":"#/components/schemas/JsonSchema"},)"
    R"("regex":{"type":"string"},"choice":{"type":"array","minItems":1,)"
    R"("items":{"type":"string","minLength":1}},"grammar":{"type":"string"},)"
    R"("json_object":{"type":"boolean"}}},)"
    R"("Error":{"type":"object","required":["error"],"properties":{"error":{"type":"object",)"
    R"("required":["message","type","param","code"],"properties":{"message":{"type":"string"},)"
    R"("type":{"type":"string"},"param":{"type":["string","null"]},)"
    R"("code":{"type":["string","null"]}}}}}})";

}  // namespace

std::string OpenApi(std::span<const std::string> models) {
  return ObjectText()
      .Add("openapi", R"("3.1.0")")
      .Add("info", R"({"title":"Tandem","version":"1"})")
      .Add("paths", Paths(models))
      .Add("components", ObjectText()
                             .Add("schemas", kSchemas)
                             .Add("securitySchemes", R"({"key":{"type":"http","scheme":"bearer"}})")
                             .Take())
      .Add("security", R"([{},{"key":[]}])")
      .Take();
}

}  // namespace tandem::http
