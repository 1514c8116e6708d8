// Roles of the app's identity on a VM that exists already.

param machineName string
param principalId string
param roleIds array

resource machine 'Microsoft.Compute/virtualMachines@2024-11-01' existing = {
  name: machineName
}

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in roleIds: {
  name: guid(machine.id, principalId, role)
  scope: machine
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}]
