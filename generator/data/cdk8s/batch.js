"use strict";
// One call makes every object of many charts. cdk8s' own classes do the work: a Chart for each folder and an
// ApiObject for each object; only the round trips between Python and Node are fewer.
Object.defineProperty(exports, "__esModule", { value: true });
const { ApiObject, App, Chart } = require("cdk8s");

class Batch {
  static charts(text) {
    const app = new App();
    const made = JSON.parse(text).map(({ id, objects }) => {
      const chart = new Chart(app, id, { disableResourceNameHashes: true });
      objects.forEach((object, index) => new ApiObject(chart, String(index), object));
      return chart.toJson();
    });
    return JSON.stringify(made);
  }
}

exports.Batch = Batch;
