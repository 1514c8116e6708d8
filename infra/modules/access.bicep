// What the app's identity may do with vaults and VMs, which may be in other groups and subscriptions.
targetScope = 'subscription'

param principalId string
param workflows array
param options array

@description('GUIDs of the custom roles by name.')
param roleIds object
param vaultIds array
param virtualMachineIds array
param drillVirtualMachineIds array

var needed = filter(loadJsonContent('../roles.json'), role => !empty(intersection(role.workflows, workflows)) && (empty(role.option) || contains(options, role.option)))
var onVault = map(filter(needed, role => role.scope == 'vault'), role => roleIds[role.name])
var onVaultGroup = map(filter(needed, role => role.scope == 'vaultResourceGroup'), role => roleIds[role.name])
var onSubscription = map(filter(needed, role => role.scope == 'subscription'), role => roleIds[role.name])
var onMachine = map(filter(needed, role => role.scope == 'virtualMachine'), role => roleIds[role.name])
var onDrillMachine = map(filter(needed, role => role.scope == 'drillVirtualMachine'), role => roleIds[role.name])
var groupIds = union([], map(vaultIds, id => toLower('/subscriptions/${split(id, '/')[2]}/resourceGroups/${split(id, '/')[4]}')))
var subscriptionIds = union([], map(vaultIds, id => toLower(split(id, '/')[2])))

module vaults 'vault-access.bicep' = [for id in vaultIds: {
  name: 'vault-${uniqueString(id, principalId)}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    vaultName: last(split(id, '/'))
    principalId: principalId
    roleIds: onVault
  }
}]

module groups 'group-access.bicep' = [for id in groupIds: {
  name: 'group-${uniqueString(id, principalId)}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    principalId: principalId
    roleIds: onVaultGroup
  }
}]

module subscriptions 'subscription-access.bicep' = [for id in subscriptionIds: {
  name: 'subscription-${uniqueString(id, principalId)}'
  scope: subscription(id)
  params: {
    principalId: principalId
    roleIds: onSubscription
  }
}]

module machines 'machine-access.bicep' = [for id in virtualMachineIds: {
  name: 'machine-${uniqueString(id, principalId)}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    machineName: last(split(id, '/'))
    principalId: principalId
    roleIds: onMachine
  }
}]

module drillMachines 'machine-access.bicep' = [for id in drillVirtualMachineIds: {
  name: 'drill-${uniqueString(id, principalId)}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    machineName: last(split(id, '/'))
    principalId: principalId
    roleIds: onDrillMachine
  }
}]
