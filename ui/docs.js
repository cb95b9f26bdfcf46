// The description of the API, to be read. Texts are set as texts, never as markup.

function make(name, text, inner = []) {
  const made = document.createElement(name);
  made.textContent = text;
  made.append(...inner);
  return made;
}

function route(path, method, told) {
  const answers = Object.entries(told.responses).map(([status, answer]) =>
    make("li", `${status}: ${answer.description}`));
  const who = told.security ? "for whoever has a token" : "for everybody";
  const parameters = told.parameters.map((one) => make("li", `${one.name}, in the ${one.in}`));
  return make("details", "", [
    make("summary", `${method.toUpperCase()} ${path}: ${told.summary}`),
    make("p", who),
    make("ul", "", parameters),
    make("ul", "", answers),
  ]);
}

async function show() {
  const place = document.querySelector("#routes");
  const answer = await fetch("/api/openapi.json");
  if (!answer.ok) {
    place.textContent = `The server answers ${answer.status}.`;
    return;
  }
  const told = await answer.json();
  const routes = Object.entries(told.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, one]) => route(path, method, one)));
  place.replaceChildren(...routes);
  const schemas = Object.entries(told.components.schemas).map(([name, schema]) =>
    make("details", "", [
      make("summary", name),
      make("pre", JSON.stringify(schema, null, 2)),
    ]));
  document.querySelector("#schemas").replaceChildren(...schemas);
}

show().catch((error) => {
  document.querySelector("#routes").textContent = String(error);
});
