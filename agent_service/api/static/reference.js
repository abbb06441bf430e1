// A file of its own: the page's policy allows no script that is written into it.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  displayOperationId: true,
  // Nothing is sent to a validator elsewhere.
  validatorUrl: null,
});
