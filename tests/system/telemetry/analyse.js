// Analyses KQL with Microsoft's own parser: JSON from stdin, JSON to stdout. `language_service.py` runs it.
//
// In:  {"package": folder of @kusto/language-service-next, "tables": {table: {column: type}}, "queries": [text]}
// Out: [{"analysis": of the query in a workspace with these tables, "without": diagnostics in one that has no table}]
"use strict";

const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
require(input.package + "/bridge.min.js");
require(input.package + "/Kusto.Language.Bridge.min.js");
const { GlobalState, KustoCode, Symbols } = Kusto.Language;

const NAMESPACES = new RegExp("^Kusto\\.Language\\.(Syntax|Symbols)\\.");
const CONVERSIONS = new Set(["tostring", "toint", "tolong", "todouble", "tolower", "todatetime"]);

function schema(tables) {
  const symbols = Object.entries(tables).map(([name, columns]) => {
    const listed = Object.entries(columns).map(([column, type]) => `${column}: ${type}`);
    return Symbols.TableSymbol.From(`(${listed.join(", ")})`).WithName(name);
  });
  return GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor("workspace", symbols));
}

const typeOf = (thing) => (thing ? Bridge.getTypeName(thing).replace(NAMESPACES, "") : "");

function* listed(list) {
  for (let at = 0; list && at < list.Count; at++) yield list.getItem(at);
}

function* nodes(root) {
  yield root;
  for (let at = 0; at < root.ChildCount; at++) {
    const child = root.GetChild(at);
    if (child) yield* nodes(child);
  }
}

const elements = (list) => [...listed(list)].map((separated) => separated.Element$1 ?? separated.Element);
const literals = (root) => [...nodes(root)].filter((node) => typeOf(node) === "LiteralExpression");
const value = (literal) => {
  const found = literal.LiteralValue;
  return ["string", "boolean", "number"].includes(typeof found) ? found : Number(found);
};

// A literal span of time; null for any other expression.
const minutes = (node) => (typeOf(node) === "LiteralExpression" ? node.LiteralValue.getTotalMinutes() : null);

// `Properties.x` and `Properties["x"]`, whatever converts it; or the name of a column. `aliases`: what `extend` made.
function subject(node, aliases) {
  switch (typeOf(node)) {
    case "PathExpression":
      return `${subject(node.Expression, aliases)}.${node.Selector.toString().trim()}`;
    case "ElementExpression": {
      const [literal] = literals(node.Selector);
      return literal ? `${subject(node.Expression, aliases)}.${value(literal)}` : "";
    }
    case "FunctionCallExpression": {
      const [first] = elements(node.ArgumentList.Expressions);
      return CONVERSIONS.has(node.Name.SimpleName) && first ? subject(first, aliases) : "";
    }
    case "NameReference":
      return aliases.get(node.SimpleName) ?? node.SimpleName;
    default:
      return "";
  }
}

function diagnostics(code) {
  return [...listed(code.GetDiagnostics())].map(({ Severity, Code, Message }) => ({
    severity: Severity,
    code: Code,
    message: Message,
  }));
}

function analyse(text, globals) {
  const code = KustoCode.ParseAndAnalyze(text, globals);
  const all = [...nodes(code.Syntax)];
  const aliases = new Map();
  const found = { tables: new Set(), fields: new Set(), functions: new Set(), comparisons: [], ago: [] };
  for (const node of all) {
    switch (typeOf(node)) {
      case "SimpleNamedExpression": {
        const of = subject(node.Expression, aliases);
        if (of.startsWith("Properties.")) aliases.set(node.Name.SimpleName, of);
        break;
      }
      case "NameReference":
        if (typeOf(node.ReferencedSymbol) === "TableSymbol") found.tables.add(node.SimpleName);
        break;
      case "PathExpression":
      case "ElementExpression": {
        const [of, ...path] = subject(node, new Map()).split(".");
        if (of === "Properties") found.fields.add(path.join("."));
        break;
      }
      case "FunctionCallExpression":
        found.functions.add(node.Name.SimpleName);
        if (node.Name.SimpleName === "ago") found.ago.push(minutes(elements(node.ArgumentList.Expressions)[0]));
        break;
      case "BinaryExpression":
      case "InExpression": {
        const values = literals(node.Right).map(value);
        const of = subject(node.Left, aliases);
        if (of && values.length) found.comparisons.push({ subject: of, operator: node.Operator.Text, values });
        break;
      }
    }
  }
  return {
    diagnostics: diagnostics(code),
    tables: [...found.tables],
    fields: [...found.fields],
    functions: [...found.functions],
    comparisons: found.comparisons,
    ago: found.ago,
    columns: Object.fromEntries([...listed(code.ResultType?.Columns)].map((column) => [column.Name, column.Type.Name])),
  };
}

const [full, bare] = [schema(input.tables), schema({})];
const answers = input.queries.map((text) => ({
  analysis: analyse(text, full),
  without: diagnostics(KustoCode.ParseAndAnalyze(text, bare)),
}));
process.stdout.write(JSON.stringify(answers));
