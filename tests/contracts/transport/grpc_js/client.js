// Calls a daemon with grpc-js as anybody would, and prints what came as JSON. Arguments: address, path of inference.proto.
'use strict';
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, proto] = process.argv.slice(2);
const { inference } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, longs: Number, defaults: true }));
const connect = (options) => new inference.GRPCInferenceService(address, grpc.credentials.createInsecure(), options);
const client = connect({});

const floats = (...numbers) => Buffer.from(new Float32Array(numbers).buffer);
const numbers = (bytes) => Array.from(new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)));
const tensor = (rows) => ({ name: 'numeric', datatype: 'FP32', shape: [rows, 3] });
const raw = (id) => ({ model_name: 'scaled', id, inputs: [tensor(1)], raw_input_contents: [floats(1, 2, 3)] });
const typed = { model_name: 'scaled', inputs: [{ ...tensor(1), contents: { fp32_contents: [1, 2, 3] } }] };
const many = { model_name: 'scaled', inputs: [tensor(200000)], raw_input_contents: [Buffer.alloc(2400000)] };

const infer = (request, from = client, options = {}) =>
  new Promise((resolve) => {
    from.ModelInfer(request, new grpc.Metadata(), { deadline: Date.now() + 10000, ...options }, (error, answer) => resolve(error || answer));
  });
const check = () =>
  new Promise((resolve) => {
    const plain = (bytes) => bytes;
    client.makeUnaryRequest('/grpc.health.v1.Health/Check', plain, plain, Buffer.alloc(0), (error, answer) => resolve(error || [...answer]));
  });
const stream = (requests, ended, options) =>
  new Promise((resolve) => {
    const answers = [];
    const call = client.ModelStreamInfer(options || {});
    call.on('data', (answer) => {
      answers.push(answer.error_message || numbers(answer.infer_response.raw_output_contents[0]));
      if (answers.length === requests.length && ended === 'cancel') call.cancel();
    });
    call.on('error', () => {});
    call.on('status', (status) => resolve([status.code, answers]));
    requests.forEach((request) => call.write(request));
    if (ended === 'end') call.end();
  });

async function main() {
  const said = {};
  const answer = await infer(raw('7'));
  said.raw = [answer.id, answer.model_version, numbers(answer.raw_output_contents[0])];
  said.typed = (await infer(typed)).outputs[0].contents.fp32_contents;
  said.large = (await infer(many, connect({ 'grpc.max_receive_message_length': -1 }))).raw_output_contents[0].length;
  said.packed = numbers((await infer(raw(''), connect({ 'grpc.default_compression_algorithm': 2 }))).raw_output_contents[0]);
  said.together = new Set((await Promise.all([...Array(300).keys()].map((id) => infer(raw(`${id}`))))).map((one) => one.id)).size;
  const refused = await infer({ ...raw(''), model_name: 'nobody' });
  said.refused = [refused.code, refused.details, refused.metadata.get('grpc-status-details-bin').toString().includes('MODEL_UNKNOWN')];
  said.health = await check();
  said.stream = await stream([raw(''), { ...raw(''), model_name: 'nobody' }, raw('')], 'end');
  said.cancelled = await stream([raw(''), raw('')], 'cancel');
  said.late = await stream([raw('')], 'never', { deadline: Date.now() + 300 });
  console.log(JSON.stringify(said));
  process.exit(0);
}
main();
