// Paths are relative, so that the page also works behind a path prefix. No validator: it would send the document elsewhere.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#interface",
  layout: "BaseLayout",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
