import {
  create,
  fromBinary,
  isFieldSet,
  toBinary,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { commands } from "../gen/commands";
import { decodePDU, encodePDU } from "./pdu";

const ids = new Map(commands.map(([id, schema]) => [schema, id]));
const schemas = new Map(commands);

/** Received is a PDU of a known command, decoded. */
export interface Received {
  schema: DescMessage;
  seq: number;
  message: MessageShape<DescMessage>;
}

/** commandOf returns the command id of a message. */
export function commandOf(schema: DescMessage): number {
  const id = ids.get(schema);
  if (id === undefined) throw new Error(`${schema.name} has no command id`);
  return id;
}

/** encode returns the PDU of a message. It throws when a required field is missing. */
export function encode<S extends DescMessage>(
  schema: S,
  fields: MessageInitShape<S>,
  seq: number,
): Uint8Array<ArrayBuffer> {
  return encodePDU(commandOf(schema), seq, toBinary(schema, create(schema, fields)));
}

/**
 * decode reads a WebSocket message. The result is undefined for a command that the page does
 * not know. It throws when the message is not a PDU, its body not protobuf, or when a required
 * field is missing.
 */
export function decode(bytes: Uint8Array): Received | undefined {
  const pdu = decodePDU(bytes);
  const schema = schemas.get(pdu.command);
  if (!schema) return undefined;
  const message = fromBinary(schema, pdu.body);
  for (const field of schema.fields)
    if (field.presence === FeatureSet_FieldPresence.LEGACY_REQUIRED && !isFieldSet(message, field))
      throw new Error(`${schema.name} without ${field.name}`);
  return { schema, seq: pdu.seq, message };
}
