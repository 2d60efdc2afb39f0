// Paths are relative, so that the page also works behind a path prefix. No validator: it would send the document elsewhere.

// Swagger UI fills every field of a form with a sample of its type, and sends it: the model "string", the latent [-1000].
// This fills in defaults and examples only.
const onlyExamples = {
  afterLoad(system) {
    const sample = system.fn.getSampleSchema;
    const filled = (schema) => schema.default ?? schema.examples?.[0] ?? (schema.type === "array" ? undefined : "");
    system.getSystem().fn.getSampleSchema = (schema, kind, ...rest) =>
      kind === false ? filled(schema.toJS?.() ?? schema) : sample(schema, kind, ...rest);
  },
};

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#interface",
  layout: "BaseLayout",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [onlyExamples],
});
