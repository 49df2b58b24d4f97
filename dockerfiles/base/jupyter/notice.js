// Tells in the browser what could not be merged. A prebuilt extension of JupyterLab, by hand: it
// needs nothing but the application, so there is nothing to bundle.
const SCHEMA = 'https://remotedl.invalid/events/conflict/v1';

const plugin = {
  id: 'remotedl-notice:plugin',
  description: 'Shows which version of a file could not be merged, and where it is.',
  autoStart: true,
  activate: app => {
    app.serviceManager.events.stream.connect((_, event) => {
      if (event.schema_id !== SCHEMA) {
        return;
      }
      const message =
        `${event.path} was changed elsewhere as well, in the same words. ` +
        `Yours stays here; the other version is ${event.copy}`;
      void app.commands.execute('apputils:notify', {
        message,
        type: 'warning',
        options: { autoClose: false }
      });
    });
  }
};

window._JUPYTERLAB = window._JUPYTERLAB || {};
window._JUPYTERLAB['remotedl-notice'] = {
  init: () => undefined,
  get: () => Promise.resolve(() => ({ __esModule: true, default: plugin }))
};
