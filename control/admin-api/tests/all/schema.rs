//! Whether an answer is what the OpenAPI document says: as much of JSON Schema as that
//! document uses.

use serde_json::Value;

use crate::http::Answered;

/// The schema that an answer of this operation has, by its status and its media type. Fails
/// where the document tells of no such answer; without JSON there is none.
#[track_caller]
pub(crate) fn of<'a>(document: &'a Value, asked: (&str, &str), answered: &Answered) -> &'a Value {
    let (method, path) = asked;
    let operation = &document["paths"][path][method.to_lowercase()];
    let response = &operation["responses"][answered.status.to_string()];
    assert!(response.is_object(), "{method} {path} {answered:#?}");
    let kind = answered.headers.get("content-type");
    let kind = kind.map_or("", |kind| kind.to_str().unwrap());
    let kind = kind.split(';').next().unwrap();
    match &response["content"] {
        Value::Null => &Value::Null,
        content => {
            let told = &content[kind];
            assert!(told.is_object(), "{method} {path} {kind} {answered:#?}");
            match kind.ends_with("json") {
                true => &told["schema"],
                false => &Value::Null,
            }
        }
    }
}

/// What is wrong with `value`, if anything.
pub(crate) fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(to) = schema["$ref"].as_str() {
        let schema = document.pointer(to.trim_start_matches('#')).unwrap();
        return wrong(document, schema, value, at);
    }
    if let Some(all) = schema["allOf"].as_array() {
        return all.iter().find_map(|one| wrong(document, one, value, at));
    }
    if let Some(all) = schema["oneOf"].as_array() {
        let fits = all
            .iter()
            .filter(|one| wrong(document, one, value, at).is_none());
        let fits = fits.count();
        return (fits != 1).then(|| format!("{at}: {fits} of oneOf fit {value}"));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return Some(format!("{at}: {value} is none of {allowed:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |one: &&str| match *one {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: type {other}"),
    };
    if !types.is_empty() && !types.iter().any(is) {
        return Some(format!("{at}: {value} is no {types:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        if value.is_object() && value.get(name).is_none() {
            return Some(format!("{at}: no {name} in {value}"));
        }
    }
    if let (Some(fields), Some(told)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, value) in fields {
            if let Some(schema) = told.get(name)
                && let Some(wrong) = wrong(document, schema, value, &format!("{at}.{name}"))
            {
                return Some(wrong);
            }
        }
    }
    let items = value.as_array().into_iter().flatten();
    let mut items = items.filter_map(|item| wrong(document, &schema["items"], item, at));
    schema.get("items").and_then(|_| items.next())
}
