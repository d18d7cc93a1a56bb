// gRPC server reflection (v1): what a port serves, told to grpcurl and its like.
import { create, type DescFile, type DescMessage, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter } from "@connectrpc/connect";
import {
  ServerReflection,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionResponseSchema,
} from "#gen/grpc/reflection/v1/reflection_pb.ts";

/** gRPC's codes. */
const [NOT_FOUND, UNIMPLEMENTED] = [5, 12];

type Answer = ServerReflectionResponse["messageResponse"];

/** Of the services that the router has by then, and of `others`, which the port serves elsewhere. */
export function registerReflection(router: ConnectRouter, others: readonly DescService[] = []): void {
  const services = new Set([...router.handlers.map(({ service }) => service), ...others, ServerReflection]);
  const names = [...services].map(({ typeName }) => typeName).sort();
  const files = new Map<string, DescFile>();
  for (const { file } of services) collect(file, files);
  const symbols = new Map([...files.values()].flatMap((file) => symbolsOf(file).map((name) => [name, file] as const)));

  function answerTo({ messageRequest: { case: kind, value } }: ServerReflectionRequest): Answer {
    switch (kind) {
      case "listServices":
        return { case: "listServicesResponse", value: list(names) };
      case "fileByFilename":
        return fileAnswer(files.get(value), value);
      case "fileContainingSymbol":
        return fileAnswer(symbols.get(value), value);
      case "fileContainingExtension":
        return failure(NOT_FOUND, `no extension ${value.extensionNumber} of ${value.containingType} is known`);
      case "allExtensionNumbersOfType":
        return failure(NOT_FOUND, `no extension of ${value} is known`);
      default:
        return failure(UNIMPLEMENTED, "the request asks for nothing that is known");
    }
  }

  router.service(ServerReflection, {
    async *serverReflectionInfo(requests) {
      for await (const request of requests) {
        yield create(ServerReflectionResponseSchema, {
          validHost: request.host,
          originalRequest: request,
          messageResponse: answerTo(request),
        });
      }
    },
  });
}

function list(names: readonly string[]) {
  return {
    $typeName: "grpc.reflection.v1.ListServiceResponse" as const,
    service: names.map((name) => ({ $typeName: "grpc.reflection.v1.ServiceResponse" as const, name })),
  };
}

/** With all that it imports, itself first, so that one question is enough. */
function fileAnswer(file: DescFile | undefined, asked: string): Answer {
  if (!file) return failure(NOT_FOUND, `${asked.slice(0, 200)} is unknown here`);
  const files = new Map<string, DescFile>();
  collect(file, files);
  const fileDescriptorProto = [...files.values()].map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  const value = { $typeName: "grpc.reflection.v1.FileDescriptorResponse" as const, fileDescriptorProto };
  return { case: "fileDescriptorResponse", value };
}

function failure(errorCode: number, errorMessage: string): Answer {
  return { case: "errorResponse", value: { $typeName: "grpc.reflection.v1.ErrorResponse", errorCode, errorMessage } };
}

function collect(file: DescFile, files: Map<string, DescFile>): void {
  if (files.has(file.proto.name)) return;
  files.set(file.proto.name, file);
  for (const each of file.dependencies) collect(each, files);
}

function symbolsOf({ services, messages, enums }: DescFile): string[] {
  return [
    ...services.flatMap(({ typeName, methods }) => [typeName, ...methods.map(({ name }) => `${typeName}.${name}`)]),
    ...enums.map(({ typeName }) => typeName),
    ...messages.flatMap(symbolsOfMessage),
  ];
}

function symbolsOfMessage({ typeName, nestedMessages, nestedEnums }: DescMessage): string[] {
  return [typeName, ...nestedEnums.map((each) => each.typeName), ...nestedMessages.flatMap(symbolsOfMessage)];
}
