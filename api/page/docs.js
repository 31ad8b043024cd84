// Shows the API's description. A validator somewhere else would be told our address: there is none.
SwaggerUIBundle({
  url: "/api/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
});
