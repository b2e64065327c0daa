package adminapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// object is an object of JSON.
type object = map[string]any

// describe returns the calls in OpenAPI's form. It comes from the same table and the same types
// as the calls, so that it is complete.
func describe(routes []*route) []byte {
	paths := object{}
	for _, rt := range routes {
		ops, ok := paths[rt.path].(object)
		if !ok {
			ops = object{}
			paths[rt.path] = ops
		}
		ops[strings.ToLower(rt.method)] = describeCall(rt)
	}
	failure := schema(reflect.TypeFor[errorAnswer]())
	body := failure["properties"].(object)["error"].(object)["properties"].(object)
	body["code"].(object)["enum"] = codes
	doc, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{"title": "TeamTalk administration", "version": "1",
			"description": "Each call has the header Authorization: Bearer TOKEN. Tokens with " +
				"the role read-only may make GET calls, except those that read messages."},
		"paths": paths,
		"components": object{
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer"}},
			"responses": object{"error": object{"description": "The call was not carried out.",
				"content": jsonContent(failure)}},
		},
		"security": []any{object{"token": []any{}}},
	}, "", " ")
	if err != nil {
		panic(err) // maps, strings and numbers always encode
	}
	return doc
}

// describeCall returns the description of a call.
func describeCall(rt *route) object {
	op := object{"operationId": rt.name, "summary": rt.what,
		"x-role": string(rt.role),
		"responses": object{
			"200": object{"description": "The call was carried out.",
				"content": jsonContent(schema(rt.out))},
			"default": object{"$ref": "#/components/responses/error"},
		}}
	if parameters := parametersOf(rt.in); len(parameters) > 0 {
		op["parameters"] = parameters
	}
	switch media, _ := bodyOf(rt.in); {
	case media == "application/json":
		op["requestBody"] = object{"content": jsonContent(schema(rt.in))}
	case media != "":
		op["requestBody"] = object{"required": true,
			"content": object{media: object{"schema": object{"type": "string"}}}}
	}
	if rt.method == http.MethodDelete || rt.method == http.MethodGet {
		delete(op, "requestBody")
	}
	return op
}

func jsonContent(of object) object { return object{"application/json": object{"schema": of}} }

// parametersOf returns the parameters in the path and the query.
func parametersOf(t reflect.Type) (list []object) {
	for i := range t.NumField() {
		f := t.Field(i)
		for _, in := range []string{"path", "query"} {
			name := f.Tag.Get(in)
			if name == "" {
				continue
			}
			p := object{"name": name, "in": in, "schema": schema(f.Type)}
			if in == "path" {
				p["required"] = true
			}
			if doc := f.Tag.Get("doc"); doc != "" {
				p["description"] = doc
			}
			if f.Type.Kind() == reflect.Slice {
				p["style"], p["explode"] = "form", false
			}
			list = append(list, p)
		}
	}
	return list
}

// schema returns the description of a type.
func schema(t reflect.Type) object {
	switch t.Kind() {
	case reflect.Pointer:
		s := schema(t.Elem())
		s["type"] = []any{s["type"], "null"}
		return s
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice:
		return object{"type": "array", "items": schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schema(t.Elem())}
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return object{"type": "string", "format": "date-time"}
		}
		properties := object{}
		addProperties(properties, t)
		return object{"type": "object", "properties": properties}
	}
	return object{"type": "integer"}
}

// addProperties adds the fields of a struct that are in JSON.
func addProperties(to object, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			addProperties(to, f.Type)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		s := schema(f.Type)
		if doc := f.Tag.Get("doc"); doc != "" {
			s["description"] = doc
		}
		to[name] = s
	}
}
