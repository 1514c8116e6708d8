// The custom roles of the app, from the table that docs/operations.md shows. Role names are unique in a tenant, so
// they contain the environment's.
targetScope = 'subscription'

param environmentName string
param assignableScopes array
param workflows array
param options array

var needed = filter(loadJsonContent('../roles.json'), role => !empty(intersection(role.workflows, workflows)) && (empty(role.option) || contains(options, role.option)))

resource definitions 'Microsoft.Authorization/roleDefinitions@2022-04-01' = [for role in needed: {
  name: guid(subscription().id, environmentName, role.name)
  properties: {
    roleName: 'SQL VM Backup ${role.name} (${environmentName})'
    type: 'CustomRole'
    description: role.description
    permissions: [
      {
        actions: role.actions
        notActions: []
        dataActions: []
        notDataActions: []
      }
    ]
    assignableScopes: assignableScopes
  }
}]

output ids object = toObject(needed, role => role.name, role => guid(subscription().id, environmentName, role.name))
